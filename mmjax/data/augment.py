"""Augmentations: pure functions of an image and a random generator.

Each takes a uint8 [H, W, 3] image and returns one, and never changes its
input. A pipeline is an ordered tuple of settings, plain data:

    ({'name': 'random_resized_crop', 'scale': (0.6, 1.0)}, {'name': 'flip'})

`check` refuses names and arguments that don't exist; `apply` runs them.
"""

import inspect
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

_SIDES = re.compile(
  r'\b(left|right)(most|wards?)?\b', re.IGNORECASE | re.UNICODE
)


def names_a_side(text: str) -> bool:
  """Whether a text speaks of left or right, so that a flip would make it lie.

  >>> names_a_side('the cube on the Left'), names_a_side('a bright cleft')
  (True, False)
  """
  return _SIDES.search(text) is not None


def random_resized_crop(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  size: tuple[int, int],
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> UInt8[np.ndarray, 'h w 3']:
  """Cuts out a random part and brings it to `size` (Szegedy et al. 2015).

  Args:
    image: uint8 [H, W, 3].
    rng: draws the part's area, aspect ratio and position.
    size: (height, width) of the result. `apply` gives the model's.
    scale: range of the part's share of the area.
    ratio: range of width / height, drawn evenly on a log scale. A part that
      would hang over the image is cut to what fits.

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
  picture = PIL.Image.fromarray(image).resize(
    (size[1], size[0]),
    PIL.Image.Resampling.BICUBIC,
    box=(left, top, left + part_width, top + part_height),
  )
  return np.asarray(picture)


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

  Then, with probability `grey`, it takes the colours away, as SimCLR does (Chen
  et al. 2020, appendix A).

  Args:
    image: uint8 [H, W, 3].
    rng: draws whether, how much of each and the order.
    brightness: the factor is drawn from [max(0, 1 - b), 1 + b].
    contrast: likewise, around the picture's mean grey.
    saturation: likewise, away from grey.
    hue: the turn is drawn from [-hue, hue], in turns of the colour circle,
      at most 0.5.
    grey: probability of shades of grey instead of colours.
    p: probability that anything happens.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  picture = PIL.Image.fromarray(np.ascontiguousarray(image))
  strengths = (brightness, contrast, saturation, hue)
  draws = rng.uniform(-1, 1, size=4) * strengths
  for i in rng.permutation(4):
    if strengths[i] == 0:
      continue
    if i == 3:
      picture = _turn_hue(picture, draws[3])
    else:
      picture = _ENHANCERS[i](picture).enhance(max(0.0, 1 + draws[i]))
  if grey and rng.random() < grey:
    picture = picture.convert('L').convert('RGB')
  return np.asarray(picture)


_ENHANCERS = (
  PIL.ImageEnhance.Brightness,
  PIL.ImageEnhance.Contrast,
  PIL.ImageEnhance.Color,
)


def _turn_hue(picture: PIL.Image.Image, turns: float) -> PIL.Image.Image:
  values = np.array(picture.convert('HSV'))
  # uint8 wraps around, as the colour circle does.
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
    rng: draws the operations and their signs.
    num_ops: how many, one after the other.
    magnitude: 0 (hardly anything) to 10 (the ends of AutoAugment's ranges).
    exclude: names of operations not to use, such as ('color', 'solarize')
      where texts name colours; see `mmjax.data.rand_augment.OPERATIONS`.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: for names in `exclude` that don't exist, or a magnitude out of
      range.
  """
  names = rand_augment_lib.names_without(exclude)
  if not 0 <= magnitude <= 10:
    raise ConfigError(f'magnitude {magnitude} is not in 0..10')
  picture = PIL.Image.fromarray(np.ascontiguousarray(image))
  for i in rng.integers(len(names), size=num_ops):
    sign = 1 if rng.random() < 0.5 else -1
    operation = rand_augment_lib.OPERATIONS[names[i]]
    picture = operation(picture, magnitude / 10, sign)
  return np.asarray(picture)


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
    rng: draws whether and where; the square may hang over the edge.
    size: the square's side, as a share of the image's shorter side.
    p: probability that it happens.
    fill: the grey it is filled with.

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
    rng: draws the shift down and right, each even over -pixels..pixels.
    pixels: the farthest shift.
    mode: what moves in, as `numpy.pad` names it: 'edge', 'reflect', 'constant'
      (black).

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
  """Refuses augmentations that don't exist and arguments they don't take.

  Raises:
    ConfigError: naming what is legal.
  """
  for setting in settings:
    if not isinstance(setting, Mapping):
      raise ConfigError(
        f'augmentation {setting!r} is no dict of its name and arguments, such '
        "as {'name': 'cutout', 'size': 0.3}"
      )
    name = setting.get('name')
    if name not in AUGMENTATIONS:
      raise ConfigError(
        f'augmentation {name!r} is unknown; '
        f'use one of {", ".join(AUGMENTATIONS)}'
      )
    legal = _arguments(name)
    for argument in set(setting) - {'name'}:
      if argument not in legal:
        raise ConfigError(
          f'augmentation {name!r} takes no {argument!r}; '
          f'it takes {", ".join(legal)}'
        )
    if name == 'rand_augment':
      rand_augment_lib.names_without(setting.get('exclude', ()))


def _arguments(name: str) -> list[str]:
  """Arguments a setting may give: `size` of a crop is the model's business."""
  parameters = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
  return [
    parameter
    for parameter in parameters
    if (name, parameter) != ('random_resized_crop', 'size')
  ]


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
    rng: all randomness comes from here.
    settings: see the module's docstring; checked by `check` beforehand.
    size: (height, width) that random_resized_crop gives. The others keep the
      size they get.
    flips: False leaves out 'flip', for an example whose texts name a side.

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
