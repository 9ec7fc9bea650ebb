"""Turns images into arrays, by a preprocessor_config.json."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image

from mmjax.data import images as image_files
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
  # Names, types of arrays, and settings of texts or the model alone.
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
    shortest_edge: length of the shorter side after the resize; 0 for none.
    size: (height, width) after the resize, if `shortest_edge` is 0; None for no
      resize.
    crop_size: (height, width) of the center crop, padded with zeros if the
      image is smaller; None for no crop.
    resample: Pillow's number of the filter, which is antialiased.
    rescale_factor: factor of all pixels.
    mean: mean that is then subtracted from each channel.
    std: standard deviation by which each channel is then divided.
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
      config: contents of the file.
      defaults: defaults of the family.
      section: keys that the file may have.
      file: name of the file, for errors.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    sections.check_file(config, section, file)
    config = {**defaults, **config}
    size = config['size']
    if isinstance(size, int):
      # Older files have one number, for each key of the family's default.
      size = dict.fromkeys(defaults['size'], size)
    if not config.get('do_resize', True):
      size = {}
    crops = config.get('do_center_crop', False)
    crop = config['crop_size'] if crops else None
    if isinstance(crop, int):
      crop = {'height': crop, 'width': crop}
    if 'crop_pct' in config and 'shortest_edge' in size:
      size, crop = _find_crop(size['shortest_edge'], config['crop_pct'])
    normalises = config.get('do_normalize', True)
    rescales = config.get('do_rescale', True)
    channels = functools.partial(_read_channels, config, file=file)
    mean = channels('image_mean') if normalises else np.zeros(1)
    std = channels('image_std') if normalises else np.ones(1)
    # Settings of EfficientNet: pixels in -1..1, and a second division.
    if rescales and config.get('rescale_offset', False):
      mean = mean + 1
    if config.get('include_top', False):
      std = std * channels('image_std')
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
      resample=read_resample(config, file),
      rescale_factor=config.get('rescale_factor', 1 / 255) if rescales else 1.0,
      mean=tuple(mean.tolist()),
      std=tuple(std.tolist()),
    )

  def __call__(self, image: Any) -> np.ndarray:
    """Preprocesses one image.

    Args:
      image: a Pillow image, or uint8 [H, W, 3].

    Returns:
      float32 [h, w, 3].
    """
    if not isinstance(image, PIL.Image.Image):
      image = PIL.Image.fromarray(np.asarray(image))
    image = image_files.to_rgb(image)
    size = self._find_size(image)
    if size is not None:
      image = image.resize(size, PIL.Image.Resampling(self.resample))
    array = np.asarray(image)
    if self.crop_size is not None:
      array = _center_crop(array, *self.crop_size)
    array = array.astype(np.float32) * np.float32(self.rescale_factor)
    return (array - np.float32(self.mean)) / np.float32(self.std)

  def _find_size(self, image: PIL.Image.Image) -> tuple[int, int] | None:
    """(width, height) to resize to, in the order of Pillow; None for none."""
    if not self.shortest_edge:
      return None if self.size is None else self.size[::-1]
    short, long = sorted(image.size)
    scaled = int(self.shortest_edge * long / short)
    if image.width <= image.height:
      return self.shortest_edge, scaled
    return scaled, self.shortest_edge


def read_resample(config: Mapping[str, Any], file: str) -> int:
  """Reads Pillow's number of the filter.

  Raises:
    ConfigError: if Pillow has no such filter.
  """
  value = config.get('resample', PIL.Image.Resampling.BICUBIC)
  known = [filter.value for filter in PIL.Image.Resampling]
  if value not in known:
    raise ConfigError(
      f"{file}: resample is {value!r}, and Pillow's filters are "
      f'{min(known)} to {max(known)}; take the published file'
    )
  return value


def _read_channels(
  config: Mapping[str, Any], key: str, *, file: str
) -> np.ndarray:
  """Reads a number of each channel, or one for all, as transformers does.

  Returns:
    [3] or [1].

  Raises:
    ConfigError: for other values, and for a standard deviation of 0.
  """
  value = config[key]
  items = value if isinstance(value, list | tuple) else [value]
  is_number = all(
    isinstance(item, int | float) and math.isfinite(item) for item in items
  )
  if len(items) not in (1, 3) or not is_number:
    raise ConfigError(
      f'{file}: {key} is {value!r}; mmjax reads one number or three'
    )
  if key == 'image_std' and 0 in items:
    raise ConfigError(
      f'{file}: {key} is {value!r}, by which images are divided; take the '
      'published file'
    )
  return np.asarray(items, float)


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
  """Refuses padding, unless it changes no image.

  transformers pads last, to the largest image of a batch, which changes nothing
  if all images have one size, as those of BLIP. Its LLaVA pads first.

  Args:
    config: contents of preprocessor_config.json.
    size: (height, width) of all images; None if they differ.
  """
  to = config.get('pad_size')
  same = not to or (to.get('height'), to.get('width')) == size
  first = str(config.get('image_processor_type')).startswith('Llava')
  if size is None or first or not same:
    raise ConfigError(
      'preprocessor_config.json: do_pad is True; mmjax pads no images'
    )


def _find_crop(
  edge: int, fraction: float
) -> tuple[dict[str, int], dict[str, int] | None]:
  """Sizes to resize to and to crop, as for ConvNeXt (Liu et al. 2022).

  The crop is a `fraction` of the shorter side; from 384 pixels on, images are
  resized to a square without a crop.
  """
  square = {'height': edge, 'width': edge}
  if edge >= _WARPED_FROM:
    return square, None
  return {'shortest_edge': int(edge / fraction)}, square


def _center_crop(array: np.ndarray, height: int, width: int) -> np.ndarray:
  """Crops the center, padding smaller images with zeros."""
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
