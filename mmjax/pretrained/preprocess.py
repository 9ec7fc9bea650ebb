"""Pictures to arrays as a preprocessor_config.json says."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image

from mmjax.data import images
from mmjax.errors import ConfigError
from mmjax.pretrained import sections

FILE = 'preprocessor_config.json'
SECTION = sections.Section(
  read=(
    'crop_pct',
    'crop_size',
    'do_center_crop',
    'do_normalize',
    'do_pad',
    'do_rescale',
    'do_resize',
    'image_mean',
    'image_std',
    'include_top',
    'pad_size',
    'resample',
    'rescale_factor',
    'rescale_offset',
    'size',
  ),
  only={
    'do_align_long_axis': False,
    'do_flip_channel_order': False,
    'do_rand_augment': False,
    'do_reduce_labels': False,
    'do_thumbnail': False,
  },
  # Names, types of arrays, and what concerns texts or the model alone.
  irrelevant=(
    '_processor_class',
    '_valid_processor_keys',
    'auto_map',
    'data_format',
    'default_to_square',
    'device',
    'disable_grouping',
    'do_convert_rgb',
    'feature_extractor_type',
    'image_processor_type',
    'image_seq_length',
    'image_token',
    'input_data_format',
    'num_additional_image_tokens',
    'num_query_tokens',
    'patch_size',
    'processor_class',
    'return_tensors',
    'size_divisor',
    'vision_feature_select_strategy',
  ),
)
_WARPED_FROM = 384


@dataclasses.dataclass(frozen=True)
class ImagePreprocessor:
  """Resize, crop, rescale and normalise, in this order, each of them optional.

  Attributes:
    shortest_edge: what the shorter side is resized to; 0 for no such resize.
    size: (height, width) to resize to, where `shortest_edge` is 0; None keeps
      the picture's.
    crop_size: (height, width) cut from the middle; zeros where the picture is
      smaller; None for no crop.
    resample: Pillow's number of the filter, which is antialiased.
    rescale_factor: pixels are multiplied by it.
    mean: subtracted from each channel after that.
    std: each channel is divided by it.
  """

  shortest_edge: int = 0
  size: tuple[int, int] | None = None
  crop_size: tuple[int, int] | None = None
  resample: int = PIL.Image.Resampling.BICUBIC
  rescale_factor: float = 1 / 255
  mean: tuple[float, ...] = (0.0,)
  std: tuple[float, ...] = (1.0,)

  @classmethod
  def from_config(
    cls,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    section: sections.Section = SECTION,
    file: str = FILE,
  ) -> 'ImagePreprocessor':
    """Reads a preprocessor_config.json.

    Args:
      config: what is in the file.
      defaults: what its family takes where the file is silent.
      section: the keys that it may have.
      file: its name, for errors.

    Raises:
      ConfigError: if it asks for what mmjax does not do.
    """
    sections.check_file(config, section, file)
    config = {**defaults, **config}
    size = config['size']
    if isinstance(size, int):
      # Older files have one number, which is what the family's own size is.
      size = dict.fromkeys(defaults['size'], size)
    if not config.get('do_resize', True):
      size = {}
    crops = config.get('do_center_crop', False)
    crop = config['crop_size'] if crops else None
    if isinstance(crop, int):
      crop = {'height': crop, 'width': crop}
    if 'crop_pct' in config and 'shortest_edge' in size:
      size, crop = _cropping(size['shortest_edge'], config['crop_pct'])
    normalises = config.get('do_normalize', True)
    rescales = config.get('do_rescale', True)
    mean = np.asarray(config['image_mean'] if normalises else (0.0,))
    std = np.asarray(config['image_std'] if normalises else (1.0,))
    # Both are of EfficientNet: from -1 to 1, and divided once more.
    if rescales and config.get('rescale_offset', False):
      mean = mean + 1
    if config.get('include_top', False):
      std = std * np.asarray(config['image_std'])
    _check_size(size, file)
    has_size = 'height' in size and 'width' in size
    full = (size['height'], size['width']) if has_size else None
    cropped = None if crop is None else (crop['height'], crop['width'])
    if config.get('do_pad', False):
      _check_pads(config, cropped or full)
    return cls(
      shortest_edge=size.get('shortest_edge', 0),
      size=full,
      crop_size=cropped,
      resample=config.get('resample', PIL.Image.Resampling.BICUBIC),
      rescale_factor=config.get('rescale_factor', 1 / 255) if rescales else 1.0,
      mean=tuple(mean.tolist()),
      std=tuple(std.tolist()),
    )

  def __call__(self, picture: Any) -> np.ndarray:
    """Brings one picture to the model's input.

    Args:
      picture: a Pillow image, or uint8 [H, W, 3].

    Returns:
      float32 [h, w, 3].
    """
    if not isinstance(picture, PIL.Image.Image):
      picture = PIL.Image.fromarray(np.asarray(picture))
    picture = images.to_rgb(picture)
    size = self._resized(picture)
    if size is not None:
      picture = picture.resize(size, PIL.Image.Resampling(self.resample))
    array = np.asarray(picture)
    if self.crop_size is not None:
      array = _center_crop(array, *self.crop_size)
    array = array.astype(np.float32) * np.float32(self.rescale_factor)
    return (array - np.float32(self.mean)) / np.float32(self.std)

  def _resized(self, picture: PIL.Image.Image) -> tuple[int, int] | None:
    """(width, height) to resize to, as Pillow wants it."""
    if not self.shortest_edge:
      return None if self.size is None else self.size[::-1]
    short, long = sorted(picture.size)
    scaled = int(self.shortest_edge * long / short)
    if picture.width <= picture.height:
      return self.shortest_edge, scaled
    return scaled, self.shortest_edge


def _check_size(size: Mapping[str, Any], file: str) -> None:
  unknown = sorted(set(size) - {'shortest_edge', 'height', 'width'})
  if unknown:
    raise ConfigError(
      f'{file}: size has {", ".join(unknown)}; mmjax reads shortest_edge, or '
      'height and width'
    )


def _check_pads(
  config: Mapping[str, Any], size: tuple[int, int] | None
) -> None:
  """Refuses padding, unless it changes no picture.

  As transformers pads last, to the largest of a batch, it changes nothing where
  all pictures have come to one size, as BLIP's have. Its LLaVA pads first.

  Args:
    config: what preprocessor_config.json holds.
    size: (height, width) of all pictures; None if they differ.
  """
  to = config.get('pad_size')
  same = not to or (to.get('height'), to.get('width')) == size
  first = str(config.get('image_processor_type')).startswith('Llava')
  if size is None or first or not same:
    raise ConfigError(
      'preprocessor_config.json: do_pad is True; mmjax pads no pictures'
    )


def _cropping(
  edge: int, share: float
) -> tuple[dict[str, int], dict[str, int] | None]:
  """Sizes to resize to and to crop, as for ConvNeXt (Liu et al. 2022).

  What is cropped is a `share` of the shorter side, unless pictures are so large
  that they are warped to a square instead.
  """
  square = {'height': edge, 'width': edge}
  if edge >= _WARPED_FROM:
    return square, None
  return {'shortest_edge': int(edge / share)}, square


def _center_crop(array: np.ndarray, height: int, width: int) -> np.ndarray:
  """Cuts the middle out; what a picture lacks is filled up with zeros."""
  padding = [
    (math.ceil(max(0, want - have) / 2), max(0, want - have) // 2)
    for want, have in zip((height, width), array.shape[:2], strict=True)
  ]
  array = np.pad(array, (*padding, (0, 0)))
  top, left = (
    (have - want) // 2
    for want, have in zip((height, width), array.shape[:2], strict=True)
  )
  return array[top : top + height, left : left + width]
