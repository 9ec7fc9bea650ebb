"""Decodes frames of video files and animated images."""

import contextlib
import dataclasses
import io
import math
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageSequence

from mmjax.data import file_paths, images
from mmjax.errors import ConfigError

# First bytes of images, animated or a single frame, which Pillow reads.
_IMAGES = (b'GIF8', b'\x89PNG', b'RIFF', b'\xff\xd8\xff')
# A file may be a script that names others; no protocol is there to open these.
_CLOSED = {'protocol_whitelist': 'none'}
# Milliseconds of a frame of an animation that has no duration, as in browsers.
_DURATION = 100


@dataclasses.dataclass(frozen=True)
class Outline:
  """What is known of a video before its frames are decoded.

  Attributes:
    number: number of frames.
    rate: frames a second, on average.
    height: height in pixels.
    width: width in pixels.
  """

  number: int
  rate: float
  height: int
  width: int


@dataclasses.dataclass(frozen=True)
class VideoFile:
  """A video file of a message, of which a model samples frames itself.

  Attributes:
    source: path of the file, or its contents.
  """

  source: str | os.PathLike | bytes

  def read(self) -> bytes:
    """The contents of the file.

    Raises:
      ConfigError: if it can't be read.
    """
    if isinstance(self.source, bytes):
      return self.source
    return file_paths.read_bytes(self.source, 'video')

  def explain(self, error: ConfigError) -> ConfigError:
    """The same error with the path of the file, if it has one."""
    is_path = not isinstance(self.source, bytes)
    return ConfigError(f'{self.source}: {error}') if is_path else error


@dataclasses.dataclass(frozen=True)
class Sample:
  """The frames of a video that a model reads.

  Attributes:
    numbers: their numbers, from 0 on.
    rate: how many a second they are.
    times: when each is shown, in seconds.
  """

  numbers: Sequence[int]
  rate: float
  times: Sequence[float] = ()


def decode(data: bytes) -> list[np.ndarray]:
  """Decodes all frames of a video or an animated image.

  Animated GIF, WebP and PNG need nothing further; all else (MP4, WebM, MKV,
  AVI, ...) is read by the package PyAV.

  Args:
    data: contents of the file.

  Returns:
    Frames uint8 [H, W, 3].

  Raises:
    ConfigError: if it is not a video, is damaged or empty, or PyAV is needed
      and not installed.
  """
  frames = list(_iterate(data))
  if not frames:
    raise ConfigError('the video has no frames')
  return frames


def check(data: bytes) -> None:
  """Refuses what `decode` does, with one frame at a time in memory."""
  if not sum(1 for _ in _iterate(data)):
    raise ConfigError('the video has no frames')


def is_still(data: bytes) -> bool:
  """Whether it is an image of one frame."""
  return _is_animation(data) and read_outline(data).number == 1


def read_outline(data: bytes) -> Outline:
  """Reads the number, rate and size of a video's frames, decoding none.

  Raises:
    ConfigError: as `decode`, or if the file has no rate.
  """
  read = _outline_animation if _is_animation(data) else _outline_video
  outline = read(data)
  if not outline.number:
    raise ConfigError('the video has no frames')
  return outline


def decode_some(data: bytes, numbers: Collection[int]) -> Iterator[np.ndarray]:
  """Decodes some frames of a video, one after the other.

  Args:
    data: contents of the file.
    numbers: numbers of the frames, from 0 on.

  Yields:
    Frames uint8 [H, W, 3], in their order in the video.

  Raises:
    ConfigError: as `decode`, or if the file ends before the last of them.
  """
  last, wanted, found = max(numbers), frozenset(numbers), 0
  with contextlib.closing(_iterate(data, wanted)) as frames:
    for found, frame in enumerate(frames, 1):
      yield frame
      if found == len(wanted):
        return
  raise ConfigError(
    f'the video should have {last + 1} frames or more, but {found} of the '
    f'{len(wanted)} wanted ones are in the file; it is cut off or damaged'
  )


def sample_frames(
  outline: Outline, rate: float, least: int, most: int, step: int
) -> Sample:
  """Chooses the frames of a video that a model reads.

  As many as `rate` a second, within limits and what there is, down to a
  multiple of `step`, at equal distances from the first one on (Bai et al. 2025,
  section 2.1.2; as transformers' `Qwen2VLVideoProcessor` does).

  Args:
    outline: the video's.
    rate: frames a second.
    least: smallest number; of a shorter video all are read.
    most: largest number.
    step: number of frames that become one token.

  Raises:
    ConfigError: if the video has fewer frames than `step`.

  >>> sample_frames(Outline(10, 5.0, 1, 1), 2.0, 4, 768, 2)
  Sample(numbers=[0, 2, 5, 7], rate=2.0, times=[0.0, 0.4, 1.0, 1.4])
  """
  total = outline.number
  number = min(max(total / outline.rate * rate, least), most, total)
  number = math.floor(number / step) * step
  _check_number(number, outline, step)
  edges = np.arange(0, total, total / number).astype(np.float32)
  return _make_sample(edges.astype(int).tolist(), outline)


def spread_frames(
  outline: Outline, rate: float, least: int, most: int, step: int
) -> Sample:
  """Chooses frames from the first to the last one of a video.

  As many as `rate` a second, within limits and what there is, at equal
  distances but for rounding, as transformers' `Qwen3VLVideoProcessor` does.

  Args:
    outline: the video's.
    rate: frames a second.
    least: smallest number; of a shorter video all are read.
    most: largest number.
    step: number of frames that become one token.

  Raises:
    ConfigError: if fewer frames than `step` are chosen.

  >>> spread_frames(Outline(10, 5.0, 1, 1), 2.0, 4, 768, 2)
  Sample(numbers=[0, 3, 6, 9], rate=2.0, times=[0.0, 0.6, 1.2, 1.8])
  """
  total = outline.number
  number = min(max(int(total / outline.rate * rate), least), most, total)
  _check_number(number if number >= step else 0, outline, step)
  numbers = np.linspace(0, total - 1, number).round().astype(int)
  return _make_sample(numbers.tolist(), outline)


def average_times(times: Sequence[float], step: int) -> list[float]:
  """The mean of when the first and the last frame of each step are shown.

  The last frame is repeated where frames don't fill the last step.

  >>> average_times([0.0, 0.5, 1.0], 2)
  [0.25, 1.0]
  """
  whole = [*times, *times[-1:] * (-len(times) % step)]
  return [
    (whole[first] + whole[first + step - 1]) / 2
    for first in range(0, len(whole), step)
  ]


def _check_number(number: int, outline: Outline, step: int) -> None:
  """Refuses a video of which no frames are chosen."""
  if not number:
    raise ConfigError(
      f'a video of {outline.number} frames is too short, the model reads '
      f'{step} or more; leave it out, or import it as an image'
    )


def _make_sample(numbers: list[int], outline: Outline) -> Sample:
  rate = len(numbers) / outline.number * outline.rate
  return Sample(numbers, rate, [number / outline.rate for number in numbers])


def _is_animation(data: bytes) -> bool:
  return data.startswith(_IMAGES) and data[8:12] != b'AVI '


def _iterate(
  data: bytes, wanted: Collection[int] | None = None
) -> Iterator[np.ndarray]:
  """Decodes the wanted frames, by default all."""
  iterate = _iterate_animation if _is_animation(data) else _iterate_video
  return iterate(data, wanted)


@contextlib.contextmanager
def _open_animation(data: bytes) -> Iterator[PIL.Image.Image]:
  try:
    with PIL.Image.open(io.BytesIO(data)) as image:
      yield image
  # Pillow raises many kinds of errors for damaged bytes.
  except Exception as error:
    raise ConfigError(
      f'not a readable animation ({len(data)} bytes): '
      f'{images.explain_error(error)}'
    ) from error


def _iterate_animation(
  data: bytes, wanted: Collection[int] | None
) -> Iterator[np.ndarray]:
  with _open_animation(data) as image:
    for number, frame in enumerate(PIL.ImageSequence.Iterator(image)):
      if wanted is None or number in wanted:
        yield np.asarray(images.to_rgb(frame.copy()))


def _outline_animation(data: bytes) -> Outline:
  with _open_animation(data) as image:
    durations = []
    for frame in PIL.ImageSequence.Iterator(image):
      frame.load()  # Some formats have the duration with the frame alone.
      durations.append(frame.info.get('duration') or _DURATION)
    rate = 1000 * len(durations) / sum(durations)
    return Outline(len(durations), rate, image.height, image.width)


@contextlib.contextmanager
def _open_video(data: bytes) -> Iterator[Any]:
  """The container of a video file, closed at the end."""
  try:
    import av
  except ImportError as error:
    raise ConfigError(
      'it is not an animated image; video files need the package PyAV: '
      "pip install 'mmjax[video]'"
    ) from error
  try:
    with av.open(io.BytesIO(data), options=_CLOSED) as container:
      yield container
  except Exception as error:  # av.error.*, IndexError without a video stream.
    raise ConfigError(
      f'not a readable video ({len(data)} bytes, which begin with '
      f'{data[:12]!r}): {images.explain_error(error)}'
    ) from error


def _iterate_video(
  data: bytes, wanted: Collection[int] | None
) -> Iterator[np.ndarray]:
  with _open_video(data) as container:
    for number, frame in enumerate(container.decode(video=0)):
      if wanted is None or number in wanted:
        yield frame.to_ndarray(format='rgb24')


def _outline_video(data: bytes) -> Outline:
  with _open_video(data) as container:
    stream = container.streams.video[0]
    rate = stream.average_rate or stream.guessed_rate
    height, width = stream.height, stream.width
    number = sum(1 for packet in container.demux(stream) if packet.size)
  if number and not rate:
    raise ConfigError(
      'the video says neither how many frames a second it has nor how long it '
      'is; convert it again, as ffmpeg -i OLD NEW does'
    )
  return Outline(number, float(rate or 0), height, width)


def choose_frames(
  number: int, count: int, rng: np.random.Generator | None
) -> Sequence[int]:
  """Chooses frames spread over a video.

  The video is cut into `count` parts of one length. Training draws a frame of
  each, evaluation takes the middle one (Wang et al. 2016, section 3.1). A
  shorter video gives all its frames.

  Args:
    number: number of the video's frames.
    count: number of frames to choose.
    rng: random generator for training; None for evaluation.

  >>> list(choose_frames(8, 4, None)), list(choose_frames(3, 4, None))
  ([1, 3, 5, 7], [0, 1, 2])
  """
  if number <= count:
    return range(number)
  edges = np.linspace(0, number, count + 1)
  if rng is None:
    return ((edges[:-1] + edges[1:]) / 2).astype(int).tolist()
  chosen = np.floor(rng.uniform(edges[:-1], edges[1:])).astype(int)
  return np.minimum(chosen, number - 1).tolist()
