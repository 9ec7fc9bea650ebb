"""Tokens of images that are read as tiles, in the order of their pixels.

Such a token is a weighted mean of at most four tokens of the tiles, so that a
layout, plain arrays, says all about it: also where a large grid is resized.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

NEWLINE = 0


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the tokens of an image are made of.

  Attributes:
    sources: [N, 4] int32, up to four tokens of the tiles; 0 is the token that
      ends a row, and those of the tiles count from 1.
    weights: [N, 4] float32, their weights, whose sum is 1.
  """

  sources: np.ndarray
  weights: np.ndarray

  def __len__(self) -> int:
    return len(self.sources)

  def shift(self, number: int) -> 'Layout':
    """The layout of tiles that stand behind so many tokens of others."""
    sources = np.where(self.sources == NEWLINE, NEWLINE, self.sources + number)
    return Layout(sources, self.weights)


def lay_out_tiles(
  size: tuple[int, int], rows: int, columns: int, side: int, most: int
) -> Layout:
  """The tokens of an image that is read as a whole and as tiles.

  First the whole image, then the grid of all tiles without the padding around
  the image, each row with its end (LLaVA-NeXT, Liu et al. 2024). A grid of more
  than 1.1^2 times `most` tiles is resized to as many, bilinearly
  (LLaVA-OneVision, Li et al. 2024, section 3.2).

  Args:
    size: (height, width) of the image in pixels, before it was resized.
    rows: rows of tiles.
    columns: columns of tiles.
    side: side of a tile in tokens.
    most: number of tiles from which a grid is resized.

  Returns:
    The layout of tiles of which the whole image is the first and the others
    follow, rows first.
  """
  first = np.arange(1, 1 + side * side)
  tiles = 1 + side * side * (1 + np.arange(rows * columns))
  inner = np.arange(side * side).reshape(side, side)
  grid = tiles.reshape(rows, columns)[:, None, :, None] + inner[:, None, :]
  grid = grid.reshape(rows * side, columns * side)
  grid = grid[_find_unpadded(size, *grid.shape)]
  ratio = math.sqrt(grid.size / (most * side * side))
  new = grid.shape
  if ratio > 1.1:
    new = (int(grid.shape[0] // ratio), int(grid.shape[1] // ratio))
  return _join([_keep(first), _end_rows(_resize(grid, *new))])


def lay_out_whole(side: int) -> Layout:
  """The tokens of an image of one tile, and the end of a row."""
  return _join([_keep(np.arange(1, 1 + side * side)), _keep([NEWLINE])])


def lay_out_frames(number: int, side: int) -> Layout:
  """The tokens of a video: frames of half the side, then one end of a row.

  Args:
    number: number of frames, each a tile.
    side: side of a frame in tokens.
  """
  half = math.ceil(side / 2)
  frame = np.arange(1, 1 + side * side).reshape(side, side)
  pooled = _resize(frame, half, half)
  flat = Layout(pooled.sources.reshape(-1, 4), pooled.weights.reshape(-1, 4))
  frames = [flat.shift(i * side * side) for i in range(number)]
  return _join([*frames, _keep([NEWLINE])])


def choose_size(
  size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> tuple[int, int]:
  """Chooses the size of which an image fills most pixels.

  Of several, the one of which it leaves the fewest empty (LLaVA-NeXT, Liu et
  al. 2024, in their code).

  Args:
    size: (height, width) of the image in pixels.
    sizes: (height, width) of each size.
  """
  height, width = size

  def rate(new: tuple[int, int]) -> tuple[int, int]:
    scale = min(new[1] / width, new[0] / height)
    filled = int(width * scale) * int(height * scale)
    filled = min(filled, width * height)
    return filled, filled - new[0] * new[1]

  return max(sizes, key=rate)


def fit_inside(
  size: tuple[int, int], outer: tuple[int, int]
) -> tuple[int, int]:
  """(height, width) of an image that is resized to fill one side of another.

  Args:
    size: (height, width) of the image in pixels.
    outer: (height, width) inside which it has to stay.
  """
  height, width = size
  tall, wide = outer[0] / height, outer[1] / width
  if wide < tall:
    return min(math.ceil(height * wide), outer[0]), outer[1]
  return outer[0], min(math.ceil(width * tall), outer[1])


def _find_unpadded(
  size: tuple[int, int], rows: int, columns: int
) -> tuple[slice, slice]:
  """The part of a grid of tokens that an image inside its padding fills."""
  height, width = size
  if width / height > columns / rows:
    kept = int(round(height * (columns / width), 7))
    cut = (rows - kept) // 2
    return slice(cut, rows - cut), slice(None)
  kept = int(round(width * (rows / height), 7))
  cut = (columns - kept) // 2
  return slice(None), slice(cut, columns - cut)


def _resize(grid: np.ndarray, rows: int, columns: int) -> Layout:
  """Resizes a grid [R, C] of tokens bilinearly: arrays [rows, columns, 4]."""
  row, row_weight = _sample(grid.shape[0], rows)  # [rows, 2]
  column, column_weight = _sample(grid.shape[1], columns)
  sources = grid[row[:, None, :, None], column[None, :, None, :]]
  weights = row_weight[:, None, :, None] * column_weight[None, :, None, :]
  shape = (rows, columns, 4)
  return Layout(
    sources.reshape(shape).astype(np.int32),
    weights.reshape(shape).astype(np.float32),
  )


def _sample(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
  """The two neighbours of each new index, and their weights, [new, 2] each."""
  centers = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
  low = np.minimum(np.floor(centers).astype(np.int64), old - 1)
  part = centers - low
  neighbours = np.stack([low, np.minimum(low + 1, old - 1)], axis=1)
  return neighbours, np.stack([1 - part, part], axis=1)


def _end_rows(grid: Layout) -> Layout:
  """Puts the end of a row behind each row of [R, C, 4]."""
  end = _keep([NEWLINE])
  shape = (len(grid.sources), 1, 4)
  sources, weights = (
    np.concatenate([array, np.broadcast_to(more, shape)], axis=1)
    for array, more in (
      (grid.sources, end.sources),
      (grid.weights, end.weights),
    )
  )
  return Layout(sources.reshape(-1, 4), weights.reshape(-1, 4))


def _keep(tokens: Sequence[int] | np.ndarray) -> Layout:
  """Tokens as they are."""
  sources = np.zeros((len(tokens), 4), np.int32)
  sources[:, 0] = tokens
  weights = np.zeros(sources.shape, np.float32)
  weights[:, 0] = 1
  return Layout(sources, weights)


def _join(parts: Sequence[Layout]) -> Layout:
  return Layout(
    np.concatenate([part.sources for part in parts]),
    np.concatenate([part.weights for part in parts]),
  )
