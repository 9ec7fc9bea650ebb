"""The operations of RandAugment.

Cubuk et al., "RandAugment: Practical automated data augmentation with a
reduced search space", 2020; the ranges are AutoAugment's (Cubuk et al. 2019,
Table 6). Each operation takes a Pillow image, a strength in 0..1 and a sign of
-1 or 1, which operations without a direction ignore. Uncovered pixels become
mid-grey.
"""

from collections.abc import Callable, Iterable

import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps

from mmjax.errors import ConfigError

Image = PIL.Image.Image

GREY = (128, 128, 128)
MAX_DEGREES = 30.0
MAX_SHEAR = 0.3
MAX_SHIFT = 150 / 331  # Fraction of the side; AutoAugment: 150 pixels of 331.
MAX_ENHANCE = 0.9
MIN_BITS = 4


def _affine(image: Image, coefficients: tuple[float, ...]) -> Image:
  return image.transform(
    image.size,
    PIL.Image.Transform.AFFINE,
    coefficients,
    PIL.Image.Resampling.BILINEAR,
    fillcolor=GREY,
  )


def _shear_x(image: Image, strength: float, sign: int) -> Image:
  shear = sign * strength * MAX_SHEAR
  return _affine(image, (1, shear, -shear * image.height / 2, 0, 1, 0))


def _shear_y(image: Image, strength: float, sign: int) -> Image:
  shear = sign * strength * MAX_SHEAR
  return _affine(image, (1, 0, 0, shear, 1, -shear * image.width / 2))


def _translate_x(image: Image, strength: float, sign: int) -> Image:
  shift = sign * strength * MAX_SHIFT * image.width
  return _affine(image, (1, 0, shift, 0, 1, 0))


def _translate_y(image: Image, strength: float, sign: int) -> Image:
  shift = sign * strength * MAX_SHIFT * image.height
  return _affine(image, (1, 0, 0, 0, 1, shift))


def _rotate(image: Image, strength: float, sign: int) -> Image:
  return image.rotate(
    sign * strength * MAX_DEGREES,
    PIL.Image.Resampling.BILINEAR,
    fillcolor=GREY,
  )


def _solarize(image: Image, strength: float, sign: int) -> Image:
  del sign
  return PIL.ImageOps.solarize(image, round(256 * (1 - strength)))


def _posterize(image: Image, strength: float, sign: int) -> Image:
  del sign
  return PIL.ImageOps.posterize(image, 8 - round(strength * (8 - MIN_BITS)))


def _enhance(kind: Callable) -> Callable[[Image, float, int], Image]:
  def operation(image: Image, strength: float, sign: int) -> Image:
    return kind(image).enhance(1 + sign * strength * MAX_ENHANCE)

  return operation


OPERATIONS: dict[str, Callable[[Image, float, int], Image]] = {
  'identity': lambda image, strength, sign: image,
  'auto_contrast': lambda image, strength, sign: PIL.ImageOps.autocontrast(
    image
  ),
  'equalize': lambda image, strength, sign: PIL.ImageOps.equalize(image),
  'rotate': _rotate,
  'solarize': _solarize,
  'posterize': _posterize,
  'color': _enhance(PIL.ImageEnhance.Color),
  'contrast': _enhance(PIL.ImageEnhance.Contrast),
  'brightness': _enhance(PIL.ImageEnhance.Brightness),
  'sharpness': _enhance(PIL.ImageEnhance.Sharpness),
  'shear_x': _shear_x,
  'shear_y': _shear_y,
  'translate_x': _translate_x,
  'translate_y': _translate_y,
}


def select_names(exclude: Iterable[str]) -> list[str]:
  """Selects the names of all operations but the excluded ones.

  Raises:
    ConfigError: if an excluded name is unknown, or none is left.
  """
  exclude = set(exclude)
  unknown = sorted(exclude - set(OPERATIONS))
  if unknown:
    raise ConfigError(
      f'RandAugment has no operation {", ".join(unknown)}; '
      f'it has {", ".join(OPERATIONS)}'
    )
  names = [name for name in OPERATIONS if name not in exclude]
  if not names:
    raise ConfigError('RandAugment has no operation left; exclude fewer')
  return names
