"""Cuts pictures and videos of any size into patches, as for Qwen2-VL."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import numpy as np
import PIL.Image

from mmjax.data import images
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import preprocess, sections

# Beside what any picture's preparation reads.
SECTION = preprocess.SECTION.joined(
  sections.Section(
    read=(
      'max_pixels',
      'merge_size',
      'min_pixels',
      'patch_size',
      'temporal_patch_size',
    ),
    # Which frames of a video are taken: here they are given.
    irrelevant=(
      'do_sample_frames',
      'fps',
      'max_frames',
      'min_frames',
      'num_frames',
      'return_metadata',
      'video_metadata',
      'video_processor_type',
    ),
  )
)
# No picture may be longer than so many times its breadth.
_LONGEST = 200


@dataclasses.dataclass(frozen=True)
class PatchPreprocessor:
  """Resizes a picture to whole patches, normalises, and cuts.

  Attributes:
    pixels: what is done with a resized picture.
    patch_size: side of a patch in pixels.
    merge: side, in patches, of what becomes one token.
    frames: how many frames are one patch.
    min_pixels: what a picture has at least after the resize.
    max_pixels: what it has at most.
    resize: whether it is resized at all.
  """

  pixels: preprocess.ImagePreprocessor
  patch_size: int = 14
  merge: int = 2
  frames: int = 2
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
      config: what is in the file.
      defaults: what its family takes where the file is silent.
      file: its name, for errors.

    Raises:
      ConfigError: if it asks for what mmjax does not do.
    """
    sections.check_file(config, SECTION, file)
    size = config.get('size') or {}
    # Pictures keep their shapes: transformers pads none of them, either.
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
      merge=config.get('merge_size', cls.merge),
      frames=config.get('temporal_patch_size', cls.frames),
      min_pixels=least,
      max_pixels=most,
      resize=config.get('do_resize', True),
      pixels=preprocess.ImagePreprocessor.from_config(
        {**plain, 'size': {}}, {'do_center_crop': False}, SECTION
      ),
    )

  def __call__(self, frames: Sequence[Any]) -> tuple[np.ndarray, packing.Grid]:
    """Cuts a video, or an image as a single frame, into patches.

    Args:
      frames: Pillow images or uint8 [H, W, 3], all of one size. The last is
        repeated where they don't fill whole patches.

    Returns:
      float32 [S, 3 * frames * p * p], those that are merged next to each other,
      and the grid of tokens.

    Raises:
      ConfigError: if a picture is too long for its breadth.
    """
    pictures = []
    for frame in frames:
      if not isinstance(frame, PIL.Image.Image):
        frame = PIL.Image.fromarray(np.asarray(frame))
      frame = images.to_rgb(frame)
      pixels = self.pixels
      if self.resize:
        size = self.size_of(frame.height, frame.width)
        pixels = dataclasses.replace(pixels, size=size)
      pictures.append(pixels(frame))
    missing = -len(pictures) % self.frames
    video = np.stack(pictures + [pictures[-1]] * missing)
    p, m = self.patch_size, self.merge
    patches = einops.rearrange(
      video,
      '(t f) (r m p) (c n q) d -> (t r c m n) (d f p q)',
      f=self.frames,
      m=m,
      n=m,
      p=p,
      q=p,
    )
    times, side = len(video) // self.frames, p * m
    grid = packing.Grid(times, video.shape[1] // side, video.shape[2] // side)
    return patches, grid

  def size_of(self, height: int, width: int) -> tuple[int, int]:
    """The nearest size in whole tokens that has as many pixels as allowed.

    Raises:
      ConfigError: if a side is more than 200 times the other.
    """
    if max(height, width) > _LONGEST * min(height, width):
      raise ConfigError(
        f'a picture of {height} x {width} pixels is too long for its breadth; '
        f'cut it to at most {_LONGEST} to 1'
      )
    side = self.patch_size * self.merge
    sides = [round(length / side) * side for length in (height, width)]
    area = math.prod(sides)
    if area > self.max_pixels:
      shrink = math.sqrt(height * width / self.max_pixels)
      sides = [
        max(side, math.floor(length / shrink / side) * side)
        for length in (height, width)
      ]
    elif area < self.min_pixels:
      grow = math.sqrt(self.min_pixels / (height * width))
      sides = [
        math.ceil(length * grow / side) * side for length in (height, width)
      ]
    return sides[0], sides[1]
