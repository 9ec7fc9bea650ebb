"""Cuts images and videos of any size into patches, as for Qwen2-VL."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import PIL.Image

from mmjax import encoders
from mmjax.data import images as image_files
from mmjax.data import video_files
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import preprocess, sections

_SAMPLING = ('fps', 'max_frames', 'min_frames')
_FRAMES = preprocess.SECTION.join(
  sections.Section(
    irrelevant=(
      'do_sample_frames',
      'num_frames',
      'return_metadata',
      'video_metadata',
      'video_processor_type',
    ),
  )
)
# Keys of images, and of the frames of videos that the caller passes.
VIDEOS = _FRAMES.join(sections.Section(irrelevant=_SAMPLING))
SECTION = _FRAMES.join(
  sections.Section(
    read=(
      'cap_pixels_per_frame',
      'max_pixels',
      'max_video_tokens',
      'merge_size',
      'min_pixels',
      'patch_size',
      'temporal_patch_size',
      *_SAMPLING,
    ),
  )
)
# Tokens of a video in transformers, unless a file says otherwise.
_VIDEO_TOKENS = 128_000


@dataclasses.dataclass(frozen=True)
class PatchPreprocessor:
  """Resizes an image to whole patches, normalises it, and cuts it.

  Attributes:
    image_preprocessor: preprocessor of the resized image.
    patch_size: side of a patch in pixels.
    merge_size: side, in patches, of the square that becomes one token.
    temporal_patch_size: number of frames in one patch.
    min_pixels: smallest number of pixels after the resize.
    max_pixels: largest number of pixels after the resize.
    resize: whether images are resized.
  """

  image_preprocessor: preprocess.ImagePreprocessor
  patch_size: int = 14
  merge_size: int = 2
  temporal_patch_size: int = 2
  min_pixels: int = 56 * 56
  max_pixels: int = 28 * 28 * 1280
  resize: bool = True

  @classmethod
  def from_config(
    cls,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    file: str = preprocess.FILE,
  ) -> 'PatchPreprocessor':
    """Reads a preprocessor_config.json.

    Args:
      config: contents of the file.
      defaults: defaults of the family.
      file: name of the file, for errors.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    sections.check_file(config, SECTION, file)
    size = config.get('size') or {}
    # Images keep their shapes: transformers pads none of them, either.
    plain = {
      key: value
      for key, value in {**defaults, **config}.items()
      if key not in ('size', 'do_pad')
    }
    least = size.get('shortest_edge', cls.min_pixels)
    most = size.get('longest_edge', cls.max_pixels)
    least = least if config.get('min_pixels') is None else config['min_pixels']
    most = most if config.get('max_pixels') is None else config['max_pixels']
    return cls(
      patch_size=config.get('patch_size', cls.patch_size),
      merge_size=config.get('merge_size', cls.merge_size),
      temporal_patch_size=config.get(
        'temporal_patch_size', cls.temporal_patch_size
      ),
      min_pixels=least,
      max_pixels=most,
      resize=config.get('do_resize', True),
      image_preprocessor=preprocess.ImagePreprocessor.from_config(
        {**plain, 'size': {}}, {'do_center_crop': False}, SECTION
      ),
    )

  def __call__(self, frames: Sequence[Any]) -> tuple[np.ndarray, packing.Grid]:
    """Cuts a video, or an image as a single frame, into patches.

    Args:
      frames: Pillow images or uint8 [H, W, 3], all of one size. The last is
        repeated where they don't fill whole patches.

    Returns:
      float32 [S, 3 * frames * p * p], patches of one token next to each other,
      and the grid of tokens.

    Raises:
      ConfigError: if an image has sides in a ratio above 200.
    """
    images = []
    for frame in frames:
      if not isinstance(frame, PIL.Image.Image):
        frame = PIL.Image.fromarray(np.asarray(frame))
      frame = image_files.to_rgb(frame)
      pixels = self.image_preprocessor
      if self.resize:
        size = self.fit_size(frame.height, frame.width, len(frames))
        pixels = dataclasses.replace(pixels, size=size)
      images.append(pixels(frame))
    missing = -len(images) % self.temporal_patch_size
    video = np.stack(images + [images[-1]] * missing)
    patches = packing.cut_frames(
      video, self.patch_size, self.merge_size, self.temporal_patch_size
    )
    side = self.patch_size * self.merge_size
    grid = packing.Grid(
      len(video) // self.temporal_patch_size,
      video.shape[1] // side,
      video.shape[2] // side,
    )
    return patches, grid

  def fit_size(
    self, height: int, width: int, number: int = 1
  ) -> tuple[int, int]:
    """Finds the size after the resize; see `mmjax.ops.packing.fit_size`.

    Args:
      height: height of an image in pixels.
      width: width of an image in pixels.
      number: number of frames, of each of which the budget is by default.
    """
    del number
    side = self.patch_size * self.merge_size
    return packing.fit_size(
      height, width, side, self.min_pixels, self.max_pixels
    )


@dataclasses.dataclass(frozen=True)
class VideoPreprocessor(PatchPreprocessor):
  """Cuts a video, whose frames are sampled in conversations.

  Attributes:
    fps: frames a second that are sampled.
    min_frames: smallest number of sampled frames.
    max_frames: largest number of sampled frames.
    total_pixels: pixels that the frames of a video share, as of
      `mmjax.data.features.Videos`; 0 for no bound.
    frame_pixels: largest number of pixels of a frame where `max_pixels` is that
      of all, as there; 0 for no bound.
    scheme: how frames are sampled and share pixels, as there.
  """

  fps: float = 2.0
  min_frames: int = 4
  max_frames: int = 768
  total_pixels: int = 0
  frame_pixels: int = 0

  scheme: ClassVar[str] = 'frames'

  @classmethod
  def from_config(
    cls,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    file: str = preprocess.FILE,
  ) -> 'VideoPreprocessor':
    """Reads a preprocessor_config.json of images with keys of videos.

    `cap_pixels_per_frame` shares nine tenths of the pixels of
    `max_video_tokens`, as in transformers.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    made = super().from_config(config, defaults, file)
    sampling = {
      key: config[key] for key in _SAMPLING if config.get(key) is not None
    }
    if config.get('cap_pixels_per_frame'):
      side = made.patch_size * made.merge_size
      most = config.get('max_video_tokens', _VIDEO_TOKENS)
      sampling['total_pixels'] = int(most * side**2 * 0.9)
    return dataclasses.replace(made, **sampling)

  def sample(self, outline: video_files.Outline) -> video_files.Sample:
    """Chooses the frames of a video that are read.

    Raises:
      ConfigError: if it has too few.
    """
    return video_files.sample_frames(
      outline,
      self.fps,
      self.min_frames,
      self.max_frames,
      self.temporal_patch_size,
    )

  def fit_size(
    self, height: int, width: int, number: int = 1
  ) -> tuple[int, int]:
    return packing.fit_size(
      height,
      width,
      self.patch_size * self.merge_size,
      self.min_pixels,
      packing.share_pixels(
        number,
        self.temporal_patch_size,
        self.min_pixels,
        self.max_pixels,
        self.total_pixels,
      ),
    )


def check(
  encoder: encoders.PackedViT,
  prepares: PatchPreprocessor,
  file: str,
) -> None:
  """Refuses a preprocessing that cuts other patches than the model reads.

  Args:
    encoder: the model's image encoder.
    prepares: its preprocessing.
    file: name of the file with the settings of the preprocessing.

  Raises:
    ConfigError: naming both values and files.
  """
  for key, value, theirs, wanted in (
    (
      'merge_size',
      prepares.merge_size,
      'spatial_merge_size',
      encoder.merge_size,
    ),
    ('patch_size', prepares.patch_size, 'patch_size', encoder.patch_size),
    (
      'temporal_patch_size',
      prepares.temporal_patch_size,
      'temporal_patch_size',
      encoder.temporal_patch_size,
    ),
  ):
    if value != wanted:
      raise ConfigError(
        f'{file}: {key} is {value}, but by config.json the vision '
        f"encoder's {theirs} is {wanted}; take both files from one model"
      )
