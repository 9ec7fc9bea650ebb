"""Augmentations: pure functions of an image and a random generator.

Each takes a uint8 [H, W, 3] image and returns one, and never changes its
input. A pipeline is an ordered tuple of settings, plain data:

    ({'name': 'random_resized_crop', 'scale': (0.6, 1.0)}, {'name': 'flip'})

`check` refuses unknown names and arguments; `apply` runs the pipeline.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from jaxtyping import UInt8

from mmjax.data import contours
from mmjax.data import rand_augment as rand_augment_lib
from mmjax.data import warp as warp_lib
from mmjax.errors import ConfigError

Setting = Mapping[str, Any]

# Fraction of an image's area that a crop is of (Szegedy et al. 2015).
_CROP_SCALE = (0.08, 1.0)

_SIDE_WORDS = re.compile(
  r'\b(left|right)(most|wards?)?\b', re.IGNORECASE | re.UNICODE
)


def mentions_side(text: str) -> bool:
  """Whether a text mentions left or right, so that a flip would falsify it.

  >>> mentions_side('the cube on the Left'), mentions_side('a bright cleft')
  (True, False)
  """
  return _SIDE_WORDS.search(text) is not None


def random_resized_crop(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  size: tuple[int, int],
  scale: tuple[float, float] = _CROP_SCALE,
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> UInt8[np.ndarray, 'h w 3']:
  """Crops a random part and resizes it to `size` (Szegedy et al. 2015).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for the crop's area, aspect ratio and position.
    size: (height, width) of the result. `apply` passes the model's.
    scale: range of the crop's fraction of the image's area.
    ratio: range of width / height, drawn uniformly on a log scale. A crop that
      exceeds the image is clipped to it.

  Returns:
    uint8 [size[0], size[1], 3].
  """
  height, width = image.shape[:2]
  area = height * width * rng.uniform(*scale)
  aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
  part_width = min(np.sqrt(area * aspect), width)
  part_height = min(np.sqrt(area / aspect), height)
  left = rng.uniform(0, width - part_width)
  top = rng.uniform(0, height - part_height)
  result = PIL.Image.fromarray(image).resize(
    (size[1], size[0]),
    PIL.Image.Resampling.BICUBIC,
    box=(left, top, left + part_width, top + part_height),
  )
  return np.asarray(result)


def flip(
  image: UInt8[np.ndarray, 'H W 3'], rng: np.random.Generator, *, p: float = 0.5
) -> UInt8[np.ndarray, 'H W 3']:
  """Mirrors left and right with probability p."""
  return image[:, ::-1] if rng.random() < p else image


def color_jitter(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  brightness: float = 0.0,
  contrast: float = 0.0,
  saturation: float = 0.0,
  hue: float = 0.0,
  grey: float = 0.0,
  p: float = 1.0,
) -> UInt8[np.ndarray, 'H W 3']:
  """Changes brightness, contrast, saturation and hue, in random order.

  Then, with probability `grey`, it converts the image to grey, as SimCLR does
  (Chen et al. 2020, appendix A).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for whether, how much of each and the order.
    brightness: b of the factor's range, [max(0, 1 - b), 1 + b].
    contrast: b of the factor of the contrast around the image's mean grey.
    saturation: b of the factor of the distance from grey.
    hue: largest rotation either way, as a fraction of the colour circle, at
      most 0.5.
    grey: probability of a grey image.
    p: probability of any change.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  result = PIL.Image.fromarray(np.ascontiguousarray(image))
  strengths = (brightness, contrast, saturation, hue)
  draws = rng.uniform(-1, 1, size=4) * strengths
  for i in rng.permutation(4):
    if strengths[i] == 0:
      continue
    if i == 3:
      result = _rotate_hue(result, draws[3])
    else:
      result = _ENHANCERS[i](result).enhance(max(0.0, 1 + draws[i]))
  if grey and rng.random() < grey:
    result = result.convert('L').convert('RGB')
  return np.asarray(result)


_ENHANCERS = (
  PIL.ImageEnhance.Brightness,
  PIL.ImageEnhance.Contrast,
  PIL.ImageEnhance.Color,
)


def _rotate_hue(image: PIL.Image.Image, turns: float) -> PIL.Image.Image:
  values = np.array(image.convert('HSV'))
  # uint8 overflow wraps around, as the colour circle does.
  values[..., 0] += np.uint8(round(turns * 256) % 256)
  return PIL.Image.fromarray(values, 'HSV').convert('RGB')


def rand_augment(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  num_ops: int = 2,
  magnitude: float = 5.0,
  exclude: Sequence[str] = (),
) -> UInt8[np.ndarray, 'H W 3']:
  """Applies `num_ops` random operations of one strength (Cubuk et al. 2020).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for the operations and their signs.
    num_ops: number of operations, applied one after the other.
    magnitude: strength, 0 (almost none) to 10 (AutoAugment's largest).
    exclude: names of `mmjax.data.rand_augment.OPERATIONS` not to use, such as
      ('color', 'solarize') where texts name colours.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: if a name in `exclude` is unknown, or the magnitude is out of
      range.
  """
  names = rand_augment_lib.select_names(exclude)
  if not 0 <= magnitude <= 10:
    raise ConfigError(f'magnitude {magnitude} is not in 0..10')
  result = PIL.Image.fromarray(np.ascontiguousarray(image))
  for i in rng.integers(len(names), size=num_ops):
    sign = 1 if rng.random() < 0.5 else -1
    operation = rand_augment_lib.OPERATIONS[names[i]]
    result = operation(result, magnitude / 10, sign)
  return np.asarray(result)


def cutout(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  size: float = 0.3,
  p: float = 1.0,
  fill: int = 128,
) -> UInt8[np.ndarray, 'H W 3']:
  """Covers a random square (DeVries & Taylor 2017).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for whether and where; the square may extend beyond
      the edge.
    size: side of the square, as a fraction of the image's shorter side.
    p: probability of a square.
    fill: grey value of the square.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  height, width = image.shape[:2]
  side = round(size * min(height, width))
  top = int(rng.integers(height)) - side // 2
  left = int(rng.integers(width)) - side // 2
  image = np.array(image)
  image[max(top, 0) : top + side, max(left, 0) : left + side] = fill
  return image


def translate(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  pixels: int = 4,
  mode: str = 'edge',
) -> UInt8[np.ndarray, 'H W 3']:
  """Moves the image by up to `pixels` each way (pad and crop).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for the shifts, uniform over -pixels..pixels.
    pixels: largest shift.
    mode: padding mode of `numpy.pad`: 'edge', 'reflect', 'constant' (black).

  Returns:
    uint8 [H, W, 3].
  """
  height, width = image.shape[:2]
  top, left = rng.integers(0, 2 * pixels + 1, size=2)
  image = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode)
  return image[top : top + height, left : left + width]


AUGMENTATIONS: dict[str, Callable[..., np.ndarray]] = {
  'random_resized_crop': random_resized_crop,
  'flip': flip,
  'color_jitter': color_jitter,
  'sharpness': contours.sharpness,
  'outline': contours.outline,
  'rand_augment': rand_augment,
  'cutout': cutout,
  'translate': translate,
  'warp': warp_lib.warp,
}


def check(settings: Iterable[Any]) -> None:
  """Refuses unknown augmentations and arguments.

  Raises:
    ConfigError: if a name or argument is unknown; it lists the legal ones.
  """
  for setting in settings:
    if not isinstance(setting, Mapping):
      raise ConfigError(
        f'augmentation {setting!r} is not a dict of its name and arguments, '
        "such as {'name': 'cutout', 'size': 0.3}"
      )
    name = setting.get('name')
    if name not in AUGMENTATIONS:
      raise ConfigError(
        f'augmentation {name!r} is unknown; '
        f'use one of {", ".join(AUGMENTATIONS)}'
      )
    legal = _list_arguments(name)
    for argument in set(setting) - {'name'}:
      if argument not in legal:
        raise ConfigError(
          f'augmentation {name!r} takes no {argument!r}; '
          f'it takes {", ".join(legal)}'
        )
    if name == 'rand_augment':
      rand_augment_lib.select_names(setting.get('exclude', ()))


def _list_arguments(name: str) -> list[str]:
  """Lists the arguments that a setting may have; a crop's `size` is not one."""
  parameters = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
  return [
    parameter
    for parameter in parameters
    if (name, parameter) != ('random_resized_crop', 'size')
  ]


def find_crop_factor(settings: Sequence[Setting]) -> float:
  """Sides of an image over those of the result that leave a crop its pixels.

  With a `random_resized_crop`, the smallest part of an image has then as many
  pixels as the result, as a crop of the same shape.

  >>> find_crop_factor(({'name': 'random_resized_crop', 'scale': (0.25, 1)},))
  2.0
  >>> find_crop_factor(({'name': 'flip'},))
  1.0
  """
  first = settings[0] if settings else {}
  if first.get('name') != 'random_resized_crop':
    return 1.0
  least = first.get('scale', _CROP_SCALE)[0]
  return 1 / math.sqrt(max(least, 0.01))


def apply(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  settings: Iterable[Setting],
  *,
  size: tuple[int, int],
  flips: bool = True,
) -> UInt8[np.ndarray, 'h w 3']:
  """Runs augmentations one after the other.

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for all augmentations.
    settings: names and arguments, as in the module's docstring, that passed
      `check`.
    size: (height, width) of random_resized_crop's result. The others keep the
      image's size.
    flips: whether 'flip' is applied; False for texts that mention a side.

  Returns:
    uint8 [H', W', 3].
  """
  for setting in settings:
    arguments = {key: setting[key] for key in setting if key != 'name'}
    name = setting['name']
    if name == 'flip' and not flips:
      continue
    if name == 'random_resized_crop':
      arguments['size'] = size
    image = AUGMENTATIONS[name](image, rng, **arguments)
  return image
