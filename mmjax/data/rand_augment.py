"""The operations that RandAugment draws from.

Cubuk et al., "RandAugment: Practical automated data augmentation with a
reduced search space", 2020; the ranges are AutoAugment's (Cubuk et al. 2019,
Table 6). Each operation takes a Pillow image, a strength in 0..1 and a sign of
-1 or 1, which those without a direction ignore. What moves in is mid-grey.
"""

from collections.abc import Callable, Iterable

import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps

from mmjax.errors import ConfigError

Picture = PIL.Image.Image

GREY = (128, 128, 128)
MAX_DEGREES = 30.0
MAX_SHEAR = 0.3
MAX_SHIFT = 150 / 331  # of the side; AutoAugment: 150 pixels of 331
MAX_ENHANCE = 0.9
MIN_BITS = 4


def _affine(picture: Picture, coefficients: tuple[float, ...]) -> Picture:
  return picture.transform(
    picture.size,
    PIL.Image.Transform.AFFINE,
    coefficients,
    PIL.Image.Resampling.BILINEAR,
    fillcolor=GREY,
  )


def _shear_x(picture: Picture, strength: float, sign: int) -> Picture:
  shear = sign * strength * MAX_SHEAR
  return _affine(picture, (1, shear, -shear * picture.height / 2, 0, 1, 0))


def _shear_y(picture: Picture, strength: float, sign: int) -> Picture:
  shear = sign * strength * MAX_SHEAR
  return _affine(picture, (1, 0, 0, shear, 1, -shear * picture.width / 2))


def _translate_x(picture: Picture, strength: float, sign: int) -> Picture:
  shift = sign * strength * MAX_SHIFT * picture.width
  return _affine(picture, (1, 0, shift, 0, 1, 0))


def _translate_y(picture: Picture, strength: float, sign: int) -> Picture:
  shift = sign * strength * MAX_SHIFT * picture.height
  return _affine(picture, (1, 0, 0, 0, 1, shift))


def _rotate(picture: Picture, strength: float, sign: int) -> Picture:
  return picture.rotate(
    sign * strength * MAX_DEGREES,
    PIL.Image.Resampling.BILINEAR,
    fillcolor=GREY,
  )


def _solarize(picture: Picture, strength: float, sign: int) -> Picture:
  del sign
  return PIL.ImageOps.solarize(picture, round(256 * (1 - strength)))


def _posterize(picture: Picture, strength: float, sign: int) -> Picture:
  del sign
  return PIL.ImageOps.posterize(picture, 8 - round(strength * (8 - MIN_BITS)))


def _enhance(kind: Callable) -> Callable[[Picture, float, int], Picture]:
  def operation(picture: Picture, strength: float, sign: int) -> Picture:
    return kind(picture).enhance(1 + sign * strength * MAX_ENHANCE)

  return operation


OPERATIONS: dict[str, Callable[[Picture, float, int], Picture]] = {
  'identity': lambda picture, strength, sign: picture,
  'auto_contrast': lambda picture, strength, sign: PIL.ImageOps.autocontrast(
    picture
  ),
  'equalize': lambda picture, strength, sign: PIL.ImageOps.equalize(picture),
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


def names_without(exclude: Iterable[str]) -> list[str]:
  """Names of the operations that are left.

  Raises:
    ConfigError: if a name to leave out doesn't exist, or nothing is left.
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
