"""Positions of patches and tokens in sequences of several images."""

import dataclasses
import math
from collections.abc import Sequence

import einops
import numpy as np

from mmjax.errors import ConfigError

# Largest ratio of the sides of an image.
_LONGEST = 200
# What a frame keeps of pixels that frames share, of the smallest number.
_KEPT = 1.05
# Bounds and step of the search for the largest size.
_SMALLEST, _LARGEST, _STEP = 1e-6, 100.0, 1e-5


@dataclasses.dataclass(frozen=True)
class Grid:
  """The grid of tokens that a language model gets for an image or other media.

  Attributes:
    times: number of steps in time; 1 for an image.
    rows: number of rows of tokens.
    columns: number of columns of tokens.
    interval: rotary positions between two steps in time.
    video: whether it is a video.
    sound: whether it is a sound, whose tokens have the positions of words.
  """

  times: int
  rows: int
  columns: int
  interval: float = 1.0
  video: bool = False
  sound: bool = False

  @property
  def tokens(self) -> int:
    """Number of tokens."""
    return self.times * self.rows * self.columns


def fit_size(
  height: int,
  width: int,
  side: int,
  min_pixels: int,
  max_pixels: int,
  *,
  frames: int = 1,
  counted: int = 1,
) -> tuple[int, int]:
  """Finds the nearest size in whole tokens with an allowed number of pixels.

  Args:
    height: height of the image in pixels.
    width: width of the image in pixels.
    side: side of a token in pixels.
    min_pixels: smallest number of pixels.
    max_pixels: largest number of pixels.
    frames: number of frames that share the pixels.
    counted: number of frames whose pixels are compared with the bounds.

  Returns:
    (height, width), multiples of `side`.

  Raises:
    ConfigError: if a side is more than 200 times the other.
  """
  if max(height, width) > _LONGEST * min(height, width):
    raise ConfigError(
      f'an image of {height} x {width} pixels is too long for its breadth; cut '
      f'it to at most {_LONGEST} to 1'
    )
  sides = [round(length / side) * side for length in (height, width)]
  area = counted * math.prod(sides)
  if area > max_pixels:
    shrink = math.sqrt(frames * height * width / max_pixels)
    sides = [
      max(side, math.floor(length / shrink / side) * side)
      for length in (height, width)
    ]
  elif area < min_pixels:
    grow = math.sqrt(min_pixels / (frames * height * width))
    sides = [
      math.ceil(length * grow / side) * side for length in (height, width)
    ]
  return sides[0], sides[1]


def fit_frames(
  height: int,
  width: int,
  side: int,
  number: int,
  step: int,
  min_pixels: int,
  max_pixels: int,
  frame_pixels: int = 0,
) -> tuple[int, int]:
  """Finds the size of a video's frames, which share one budget of pixels.

  As `Qwen3VLVideoProcessor` of transformers. It rounds the number of frames to
  whole steps where it compares with the budget, but not where it shrinks or
  grows them, and neither does this.

  Args:
    height: height of a frame in pixels.
    width: width of a frame in pixels.
    side: side of a token in pixels.
    number: number of frames.
    step: number of frames that become one token.
    min_pixels: smallest number of pixels of all frames.
    max_pixels: largest number of pixels of all frames.
    frame_pixels: largest number of pixels of a frame, which keeps 1.05 of
      `min_pixels` (`cap_pixels_per_frame`); 0 for no bound.

  Returns:
    (height, width), multiples of `side`.

  Raises:
    ConfigError: if a side is more than 200 times the other.
  """
  if min(height, width) < side:
    scale = max(side / height, side / width)
    height, width = int(height * scale), int(width * scale)
  if frame_pixels:
    own = min(frame_pixels, max_pixels // number)
    max_pixels = max(own, int(min_pixels * _KEPT)) * number
  number = max(number, step)
  return fit_size(
    height,
    width,
    side,
    min_pixels,
    max_pixels,
    frames=number,
    counted=round(number / step) * step,
  )


def share_pixels(
  number: int, step: int, min_pixels: int, max_pixels: int, total_pixels: int
) -> int:
  """Largest number of pixels of a frame of a video.

  As `Qwen2VLVideoProcessor` of transformers with `cap_pixels_per_frame`.

  Args:
    number: number of the video's frames.
    step: number of frames that become one token.
    min_pixels: smallest number of pixels of a frame, of which it keeps 1.05.
    max_pixels: largest number of pixels of a frame.
    total_pixels: pixels that the frames share, those of a step counted once; 0
      for no bound.

  >>> share_pixels(8, 2, 100, 1000, 2000), share_pixels(80, 2, 100, 1000, 2000)
  (500, 105)
  """
  if not total_pixels:
    return max_pixels
  shared = min(max_pixels, total_pixels * step // number)
  return max(shared, int(min_pixels * _KEPT))


def fit_tokens(
  height: int, width: int, side: int, number: int
) -> tuple[int, int]:
  """Finds the largest size with a limited number of tokens.

  The aspect ratio changes only by rounding to whole tokens, as for NaFlex
  (SigLIP 2, Tschannen et al. 2025).

  Args:
    height: height of the image in pixels.
    width: width of the image in pixels.
    side: side of a token in pixels, which divides the new size.
    number: largest number of tokens.

  Returns:
    The new height and width.
  """

  def scale_size(scale: float) -> tuple[int, int]:
    return tuple(
      max(1, math.ceil(size * scale / side)) for size in (height, width)
    )

  low, high = _SMALLEST, _LARGEST
  while high - low >= _STEP:
    middle = (low + high) / 2
    if math.prod(scale_size(middle)) <= number:
      low = middle
    else:
      high = middle
  rows, columns = scale_size(low)
  return rows * side, columns * side


def cut_frames(
  frames: np.ndarray, patch_size: int, merge_size: int, number: int
) -> np.ndarray:
  """Cuts frames into patches, those of one token next to each other.

  Args:
    frames: [F, H, W, C], where F is divisible by `number` and H and W by the
      side of a token.
    patch_size: side p of a patch in pixels.
    merge_size: side of a token in patches.
    number: number f of frames in one patch.

  Returns:
    [S, C * f * p * p], in the dtype of the frames.
  """
  return einops.rearrange(
    frames,
    '(t f) (r m p) (c n q) d -> (t r c m n) (d f p q)',
    f=number,
    m=merge_size,
    n=merge_size,
    p=patch_size,
    q=patch_size,
  )


def patch_layout(
  grids: Sequence[Grid], merge_size: int, window: int = 0
) -> dict[str, np.ndarray]:
  """Positions, segments and windows of the patches of packed images.

  Args:
    grids: grids of the images, in their order.
    merge_size: side of a token in patches.
    window: side of a window in tokens; 0 for no windows.

  Returns:
    Arguments of `mmjax.encoders.PackedViT.encode_patches` by name: `positions`
    [S, 2], `segments` [S] and, with windows, `windows` [S].
  """
  positions, segments, windows = [], [], []
  first_segment = first_window = 1
  for grid in grids:
    frame, row, column = (
      axis.reshape(grid.tokens, 1, 1)
      for axis in np.mgrid[: grid.times, : grid.rows, : grid.columns]
    )
    inner = np.arange(merge_size)
    shape = (grid.tokens, merge_size, merge_size)
    # Rows and columns of patches, [tokens, merge_size, merge_size].
    rows = np.broadcast_to(row * merge_size + inner[:, None], shape)
    columns = np.broadcast_to(column * merge_size + inner, shape)
    positions.append(np.stack([rows, columns], axis=-1).reshape(-1, 2))
    segments.append(np.broadcast_to(first_segment + frame, shape).reshape(-1))
    first_segment += grid.times
    if window:
      wide, high = -(-grid.columns // window), -(-grid.rows // window)
      number = (frame * high + row // window) * wide + column // window
      windows.append(np.broadcast_to(first_window + number, shape).reshape(-1))
      first_window += grid.times * wide * high
  parts = {'positions': positions, 'segments': segments}
  if window:
    parts['windows'] = windows
  return {name: np.concatenate(part) for name, part in parts.items()}


def rotary_positions(
  ids: Sequence[int], grids: Sequence[Grid], placeholders: Sequence[int]
) -> np.ndarray:
  """Time, row and column of each token of a text with images, [T, 3].

  A word has the same position on all three axes. The tokens of an image count
  from the position after the words before it, and the words after it continue
  from the largest position of the image (Wang et al. 2024, section 2.1). Those
  of a sound are as words: at 25 tokens a second, they count in the unit in
  which a video's positions follow the time (Qwen2.5-Omni, Xu et al. 2025,
  section 2.2).
  transformers 5 continues from the longer side of a video's frames, even if its
  duration is larger.

  Args:
    ids: ids of the text, with one placeholder for each token of its images.
    grids: grids of the images, in their order.
    placeholders: ids of the placeholders.
  """
  out, at, i, left = [], 0, 0, iter(grids)
  while i < len(ids):
    if ids[i] not in placeholders:
      out.append(np.full((1, 3), at))
      at, i = at + 1, i + 1
      continue
    grid = next(left)
    # [3, times, rows, columns]
    axes = np.mgrid[: grid.times, : grid.rows, : grid.columns]
    axes[0] = np.floor(axes[0] * np.float32(grid.interval))
    if grid.sound:
      axes[:] = np.arange(grid.tokens).reshape(axes.shape[1:])
    out.append(axes.reshape(3, -1).T + at)
    at, i = at + axes.max() + 1, i + grid.tokens
  return np.concatenate(out)
