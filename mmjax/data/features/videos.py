"""Fields of several videos of a conversation."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, video_files
from mmjax.data import images as image_files
from mmjax.data.features import base, patches, several
from mmjax.errors import ConfigError
from mmjax.ops import packing

SCHEMES = ('frames', 'whole')
_SAMPLERS = {
  'frames': video_files.sample_frames,
  'whole': video_files.spread_frames,
}
# Videos and frames of each that are drawn, and the height of a frame.
_DRAWN, _DRAWN_FRAMES, _DRAWN_HEIGHT = 2, 4, 96


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a model reads of a video.

  Attributes:
    numbers: numbers of its frames.
    size: their height and width after the resize.
    grid: its tokens.
    times: when each step in time is shown, in seconds: the mean of its first
      and last frame.
  """

  numbers: Sequence[int]
  size: tuple[int, int]
  grid: packing.Grid
  times: Sequence[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Videos(several.StoredFiles, patches.Patches):
  """Videos of any size and length, cut into patches for a `PackedViT`.

  Of each, frames are sampled, resized to whole tokens within a budget of
  pixels, and cut into patches of `temporal_patch_size` of them, as for
  Qwen2.5-VL (Bai et al. 2025, section 2.1.2). All share one row of S patches:
  uint8 [S, P], P = 3 * temporal_patch_size * patch_size ** 2, with the further
  arrays of `Patches`; each step of `temporal_patch_size` is a segment. A model
  reads float32 [S, P], normalised.

  A value is a list of encoded videos; a field of the kind `video` is read as a
  list of one. Frames without a rate, a list of images or an array [F, H, W, 3],
  are all read, as if they were sampled at `fps`.

  Attributes:
    tokens: most tokens of the videos of a row; each is `merge_size ** 2` of the
      S patches.
    scheme: 'frames' if each frame has a budget of pixels, and whole steps are
      sampled (Qwen2-VL); 'whole' if the frames of a video share the budget, and
      are sampled from its first to its last one (Qwen3-VL).
    fps: frames a second that are sampled.
    min_frames: smallest number of sampled frames; of a shorter video all are.
    max_frames: largest number of sampled frames.
    min_pixels: smallest number of pixels after the resize, of a frame or of all
      frames of a video, by the scheme.
    max_pixels: largest number of pixels, in the same way.
    total_pixels: with scheme='frames', largest number of pixels of a video, of
      each `temporal_patch_size` counted once, which its frames share; 0 for
      none. A frame keeps 1.05 `min_pixels`.
    frame_pixels: with scheme='whole', largest number of pixels of a frame,
      which keeps 1.05 `min_pixels`; 0 for none.
    patch_size: side of a patch in pixels.
    merge_size: side, in patches, of the square that becomes one token.
    temporal_patch_size: number of frames in one patch; the last one is repeated
      where they don't fill it.
    window: side of a window in tokens; 0 for none.
    tokens_per_second: rotary positions of a second; 0 if the steps of a video
      count instead.
    assumes_fps: whether these follow from `fps`, also where a video has too few
      frames or too many for it (Qwen2.5-Omni); otherwise from the rate at which
      frames were sampled (Qwen2.5-VL).
    time_text: text that stands in a conversation before each step, with its
      time in seconds as Python formats it, such as '<{:.1f} seconds>'; each
      step then stands for itself (Qwen3-VL). In a turn of the assistant's it is
      learnt as other words are. '' for none.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
  """

  kind: ClassVar[str] = 'videos'
  field_kinds: ClassVar[tuple[str, ...]] = ('videos', 'video')
  word: ClassVar[str] = 'videos'
  item_word: ClassVar[str] = 'video'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    *patches.Patches.encoder_settings,
    'scheme',
    'tokens_per_second',
    'assumes_fps',
    'time_text',
  )

  tokens: int = 4096
  scheme: str = 'frames'
  fps: float = 2.0
  min_frames: int = 4
  max_frames: int = 768
  min_pixels: int = 28 * 28 * 128
  max_pixels: int = 28 * 28 * 768
  total_pixels: int = 0
  frame_pixels: int = 0
  tokens_per_second: float = 0.0
  assumes_fps: bool = False
  time_text: str = ''

  def __post_init__(self):
    super().__post_init__()
    if self.fps <= 0:
      self.refuse('fps', 'is not legal: frames a second, more than 0')
    if not 1 <= self.min_frames <= self.max_frames:
      self.refuse('min_frames', f'is not in 1..max_frames, {self.max_frames}')
    if self.max_frames < self.temporal_patch_size:
      self.refuse(
        'max_frames',
        'is not legal: at least temporal_patch_size='
        f'{self.temporal_patch_size}',
      )
    for setting in ('total_pixels', 'frame_pixels', 'tokens_per_second'):
      if getattr(self, setting) < 0:
        self.refuse(setting, 'is not legal: 0 for none, or more')
    if self.scheme not in SCHEMES:
      self.refuse('scheme', f'is unknown; use {SCHEMES}')
    bound = {'frames': 'frame_pixels', 'whole': 'total_pixels'}[self.scheme]
    if getattr(self, bound):
      self.refuse(bound, f'is not of the scheme {self.scheme}; set it to 0')
    self._check_time_text()

  def _check_time_text(self) -> None:
    """Refuses a text of times that has none."""
    try:
      texts = {self.time_text.format(time) for time in (0.0, 100.0)}
    except (IndexError, KeyError, ValueError):
      texts = set()
    if self.time_text and len(texts) < 2:
      self.refuse(
        'time_text', "has no place for a time; write '<{:.1f} seconds>'"
      )

  @property
  def stored_frames(self) -> int:
    return self.temporal_patch_size

  def get(self, record: Mapping[str, Any]) -> list[Any] | None:
    value = super().get(record)
    are_frames = len(value or ()) > 1 and all(
      isinstance(item, bytes) and video_files.is_still(item) for item in value
    )
    return [value] if are_frames else value

  def find_grids(self, values: Sequence[Any]) -> list[packing.Grid]:
    """The grid of tokens of each video.

    Args:
      values: encoded videos, lists of encoded frames, or uint8 [F, H, W, 3].

    Raises:
      ConfigError: if one can't be read, has too few frames, or is far longer
        than broad.
    """
    return [self._plan(value).grid for value in values]

  def list_parts(self, value: Any) -> list[tuple[str, packing.Grid]]:
    plan = self._plan(value)
    if not self.time_text:
      return [('', plan.grid)]
    step = dataclasses.replace(plan.grid, times=1)
    return [(self.time_text.format(time), step) for time in plan.times]

  @classmethod
  def render(cls, value: Sequence[bytes]) -> contact_sheet.Cell:
    rows, lines = zip(*map(_draw_frames, value[:_DRAWN]), strict=True)
    width = max(row.shape[1] for row in rows)
    wide = [
      np.pad(
        row,
        ((0, 0), (0, width - row.shape[1]), (0, 0)),
        constant_values=255,
      )
      for row in rows
    ]
    return np.concatenate(wide), list(lines)

  def _plan(self, value: Any) -> Plan:
    if isinstance(value, bytes):
      outline = video_files.read_outline(value)
      sample = _SAMPLERS[self.scheme](
        outline,
        self.fps,
        self.min_frames,
        self.max_frames,
        self.temporal_patch_size,
      )
      height, width = outline.height, outline.width
    else:
      numbers = range(len(value))
      sample = video_files.Sample(
        numbers, self.fps, [number / self.fps for number in numbers]
      )
      is_array = isinstance(value[0], np.ndarray)
      read = np.shape if is_array else image_files.read_size
      height, width = read(value[0])[:2]
    side, interval = self.patch_size * self.merge_size, 1.0
    size = self._fit_frames(height, width, len(sample.numbers))
    if self.tokens_per_second:
      rate = self.fps if self.assumes_fps else sample.rate
      interval = self.tokens_per_second * self.temporal_patch_size / rate
    times = video_files.average_times(sample.times, self.temporal_patch_size)
    grid = packing.Grid(
      len(times), size[0] // side, size[1] // side, interval, video=True
    )
    return Plan(sample.numbers, size, grid, times)

  def _fit_frames(
    self, height: int, width: int, number: int
  ) -> tuple[int, int]:
    """The size of a number of frames after the resize."""
    side, step = self.patch_size * self.merge_size, self.temporal_patch_size
    bounds = (self.min_pixels, self.max_pixels)
    if self.scheme == 'whole':
      return packing.fit_frames(
        height, width, side, number, step, *bounds, self.frame_pixels
      )
    most = packing.share_pixels(number, step, *bounds, self.total_pixels)
    return packing.fit_size(height, width, side, self.min_pixels, most)

  def _decode(self, data: Any) -> tuple[np.ndarray, packing.Grid]:
    """The resized frames [F, h, w, 3] of a video, and its grid.

    Args:
      data: as a value of `find_grids`.
    """
    plan = self._plan(data)
    if isinstance(data, bytes):
      frames: Any = video_files.decode_some(data, plan.numbers)
    elif isinstance(data, np.ndarray):
      frames = iter(data)
    else:
      frames = map(image_files.decode, data)
    resized = [image_files.resize(frame, plan.size) for frame in frames]
    resized += resized[-1:] * (-len(resized) % self.temporal_patch_size)
    return np.stack(resized), plan.grid

  def _read(self, value: Any) -> tuple[np.ndarray, packing.Grid]:
    return self._decode(self.read_video(value))

  def read_video(self, value: Any) -> bytes | np.ndarray:
    """Reads a path, bytes, a `VideoFile`, or frames, for `find_grids`.

    Raises:
      ConfigError: if it is none of these, or can't be read.
    """
    if isinstance(value, bytes | str | os.PathLike):
      value = video_files.VideoFile(value)
    if isinstance(value, video_files.VideoFile):
      data = value.read()
      try:
        self.find_grids([data])
      except ConfigError as error:
        raise value.explain(error) from error
      return data
    frames = np.asarray(value)
    if frames.ndim != 4 or frames.dtype != np.uint8 or not len(frames):
      raise ConfigError(
        f'{self.name} is the path of a video or uint8 frames [F, H, W, 3], not '
        f'{frames.dtype} {list(frames.shape)}'
      )
    return frames

  def _combine(
    self, decoded: Sequence[tuple[np.ndarray, packing.Grid]]
  ) -> base.Example:
    grids = [grid for _, grid in decoded]
    self._check_room(grids)
    return self._pack([frames for frames, _ in decoded], grids)


def _draw_frames(data: bytes) -> tuple[np.ndarray, str]:
  """Some frames of a video in a row, and how many it has."""
  outline = video_files.read_outline(data)
  count = min(_DRAWN_FRAMES, outline.number)
  numbers = np.linspace(0, outline.number - 1, count).astype(int).tolist()
  width = max(1, round(outline.width * _DRAWN_HEIGHT / outline.height))
  frames = [
    image_files.resize(frame, (_DRAWN_HEIGHT, width))
    for frame in video_files.decode_some(data, numbers)
  ]
  line = f'{outline.number} frames, {outline.rate:.4g} a second'
  return np.concatenate(frames, axis=1), line
