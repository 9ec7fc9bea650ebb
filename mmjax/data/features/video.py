"""Fields of video."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, video_files
from mmjax.data import images as image_files
from mmjax.data.features import base, images
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Video(images.Images):
  """A video, as frames spread over it, which are normalised on the device.

  A value is a list of encoded images, or of one encoded video. The array is
  uint8 [F, H, W, 3], its mask bool [F]. A model reads float32.

  Attributes:
    number: F, number of frames; a shorter video has masked ones at its end.
    size: height and width in pixels; one number for both.
    resize: how images become that size, one of the ways of `Image`.
    mean: mean of each channel that is subtracted, of values in 0..1.
    std: standard deviation of each channel, by which values are divided.
    augment: augmentations in training, in order; the same for all frames.
  """

  kind: ClassVar[str] = 'video'
  field_kinds: ClassVar[tuple[str, ...]] = ('video', 'images')
  word: ClassVar[str] = 'a video'

  number: int = 8

  def make_arrays(
    self, chosen: Sequence[bytes], rng: np.random.Generator | None, *, flips
  ) -> base.Example:
    frames = decode_frames(chosen)
    picked = video_files.choose_frames(len(frames), self.number, rng)
    seed = None if rng is None else int(rng.integers(2**63))
    # Each frame draws the same: a crop must not jump.
    return self._stack(
      [
        self._augment(
          frames[i],
          None if seed is None else np.random.default_rng(seed),
          flips=flips,
        )
        for i in picked
      ]
    )

  def prepare(self, value: Any) -> base.Example:
    """Makes the arrays of a file's path, bytes, or a list of images."""
    data = (
      value if isinstance(value, bytes) else images.read_file(value, 'video')
    )
    if data is not None:
      try:
        frames = decode_frames([data])
      except ConfigError as error:
        raise ConfigError(f'{value!s:.200}: {error}') from error
    elif isinstance(value, list | tuple | np.ndarray) and len(value):
      frames = [image_files.to_array(frame) for frame in value]
    else:
      raise ConfigError(
        f'{self.name} is the path of a video or a list of images, not '
        f'{value!r:.80}'
      )
    picked = video_files.choose_frames(len(frames), self.number, None)
    return self._stack([frames[i] for i in picked])

  @classmethod
  def render(cls, value: Sequence[bytes]) -> contact_sheet.Cell:
    frames = decode_frames(value)
    return images.render_grid(frames), [f'{len(frames)} frames']


def decode_frames(value: Sequence[bytes]) -> list[np.ndarray]:
  """Decodes a value: one video, or images that are its frames.

  Raises:
    ConfigError: if something can't be decoded.
  """
  if len(value) == 1:
    return video_files.decode(value[0])
  return [image_files.decode(frame) for frame in value]
