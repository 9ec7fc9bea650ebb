"""Decodes frames of video files and animated images."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageSequence

from mmjax.data import images
from mmjax.errors import ConfigError

# First bytes of images, animated or a single frame, which Pillow reads.
_IMAGES = (b'GIF8', b'\x89PNG', b'RIFF', b'\xff\xd8\xff')


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
  is_animation = data.startswith(_IMAGES) and data[8:12] != b'AVI '
  frames = _decode_animation(data) if is_animation else _decode_video(data)
  if not frames:
    raise ConfigError('the video has no frames')
  return frames


def _decode_animation(data: bytes) -> list[np.ndarray]:
  try:
    with PIL.Image.open(io.BytesIO(data)) as image:
      return [
        np.asarray(images.to_rgb(frame.copy()))
        for frame in PIL.ImageSequence.Iterator(image)
      ]
  # Pillow raises many kinds of errors for damaged bytes.
  except Exception as error:
    raise ConfigError(
      f'not a readable animation ({len(data)} bytes): '
      f'{images.explain_error(error)}'
    ) from error


def _decode_video(data: bytes) -> list[np.ndarray]:
  try:
    import av
  except ImportError as error:
    raise ConfigError(
      'it is not an animated image; video files need the package PyAV: '
      "pip install 'mmjax[video]'"
    ) from error
  try:
    with av.open(io.BytesIO(data)) as container:
      return [
        frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)
      ]
  except Exception as error:  # av.error.*, IndexError without a video stream.
    raise ConfigError(
      f'not a readable video ({len(data)} bytes, which begin with '
      f'{data[:12]!r}): {images.explain_error(error)}'
    ) from error


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
