"""Reads scenes off images of the `shapes` data set, without learning.

Each cell of the 3x3 grid is compared with drawings of all shapes and sizes at
all positions that the data set has. So a drawn image can be checked against the
caption that asked for it.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import UInt8

from mmjax.data import shapes_captions, shapes_drawing
from mmjax.data import shapes_scenes as scenes
from mmjax.errors import ConfigError

_CELL = shapes_drawing.IMAGE_SIZE // 3
# Distance in RGB, each in 0..1, from which a pixel is not background.
_DISTINCT = 0.12
# Largest distance of an object's color from the nearest of the data set's.
_COLOR_ERROR = 0.2
# Number of pixels from which a cell is not empty: a small star has about 30.
_FEWEST = 8
# Largest part of an object's area that may differ from the best drawing.
_SHAPE_ERROR = 0.3


@dataclasses.dataclass(frozen=True)
class Reading:
  """What there is in an image.

  Attributes:
    objects: the objects that were recognised, in reading order.
    unclear: positions of cells with something else.
  """

  objects: scenes.Scene
  unclear: tuple[str, ...] = ()


def read(image: UInt8[np.ndarray, 'H W 3']) -> Reading:
  """Finds the objects of an image.

  Args:
    image: [48, 48, 3].

  Raises:
    ConfigError: for another size.
  """
  size = shapes_drawing.IMAGE_SIZE
  if image.shape != (size, size, 3):
    raise ConfigError(
      f'images of shapes are [{size}, {size}, 3], not {list(image.shape)}'
    )
  pixels = image.astype(np.float32) / 255
  background = _find_background(pixels)
  objects, unclear = [], []
  for i, position in enumerate(scenes.POSITIONS):
    row, column = _CELL * (i // 3), _CELL * (i % 3)
    cell = pixels[row : row + _CELL, column : column + _CELL]
    found = _read_cell(cell - background, background)
    if found == '':
      unclear.append(position)
    elif found is not None:
      objects.append(scenes.Object(*found, position))
  return Reading(tuple(objects), tuple(unclear))


def holds(image: UInt8[np.ndarray, 'H W 3'], caption: str) -> bool:
  """Whether an image has all that a caption names, and nothing else.

  Args:
    image: [48, 48, 3].
    caption: caption in one of the forms of `shapes_captions`.

  Raises:
    ConfigError: if the caption can't be parsed.
  """
  asked = shapes_captions.parse_caption(caption)
  if asked is None:
    raise ConfigError(
      f'{caption!r} is not a caption of shapes, such as '
      "'a small red circle at the top left'"
    )
  found = read(image)
  return not found.unclear and set(found.objects) == set(asked)


def _find_background(pixels: np.ndarray) -> np.ndarray:
  """The commonest color [3], to within a sixteenth."""
  rounded = (pixels.reshape(-1, 3) * 15.99).astype(int) @ (256, 16, 1)
  commonest = np.bincount(rounded).argmax()
  return np.median(pixels.reshape(-1, 3)[rounded == commonest], axis=0)


def _read_cell(
  cell: np.ndarray, background: np.ndarray
) -> tuple[str, str, str] | str | None:
  """Size, color and shape of what is in a cell; '' if unclear, None if empty.

  Args:
    cell: difference from the background [16, 16, 3].
    background: its color [3].
  """
  distance = np.linalg.norm(cell, axis=2)
  # The edge may have a pixel of a neighbor.
  inner = distance[2:-2, 2:-2]
  if (inner > _DISTINCT).sum() < _FEWEST:
    return None
  strongest = inner >= 0.8 * np.quantile(inner, 0.95)
  color = np.median(cell[2:-2, 2:-2][strongest], axis=0)
  names, known = _list_colors()
  errors = np.linalg.norm(known - (color + background), axis=1)
  if errors.min() > _COLOR_ERROR:
    return ''
  coverage = np.clip(cell @ color / (color @ color), 0, 1)
  # What the color doesn't explain is something else.
  rest = np.linalg.norm(cell - coverage[..., None] * color, axis=2)
  kinds, drawings, norms = _list_drawings()
  flat = coverage.reshape(-1)
  squares = norms - 2 * (drawings @ flat) + flat @ flat
  best = squares.argmin()
  area = drawings[best].sum()
  strange = (rest[1:-1, 1:-1] > 2 * _DISTINCT).sum()
  if squares[best] > _SHAPE_ERROR * area or strange > _SHAPE_ERROR * area:
    return ''
  size, shape = kinds[best]
  return size, names[errors.argmin()], shape


@functools.cache
def _list_colors() -> tuple[tuple[str, ...], np.ndarray]:
  colors = shapes_drawing.COLORS
  return tuple(colors), np.asarray(list(colors.values()), np.float32)


@functools.cache
def _list_drawings() -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
  """Size and shape, coverage of a cell [N, 256], and its squared length."""
  kinds, drawings = [], []
  for size, shape, coverage in shapes_drawing.list_drawings(step=2):
    kinds.append((size, shape))
    drawings.append(coverage.reshape(-1))
  stacked = np.stack(drawings)
  return kinds, stacked, np.square(stacked).sum(axis=1)
