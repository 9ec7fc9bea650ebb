"""Converts images of more than 8 bits, where there is one right scale."""

import numpy as np
import PIL.Image

from mmjax.errors import ConfigError

_MAX_16_BITS = 65_535
# An image whose brightest value is below this fraction of the range is refused:
# it may be nearly black, or have another range, such as 12 bits.
_MIN_FRACTION = 0.25


def to_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
  """Scales grey of more than 8 bits to 0..255.

  The range is 0..65535 for integers. For floats, it is 0..1 if no value is
  larger, else 0..255.

  Args:
    image: Pillow image of mode I, I;16 (of any byte order) or F.

  Raises:
    ConfigError: if a value is outside the range or not finite, or if all are in
      its lowest quarter (but not all 0), so that the range is uncertain.
  """
  values = np.asarray(image)
  low, high = float(values.min()), float(values.max())
  limit = _MAX_16_BITS
  if image.mode == 'F':
    limit = 1 if high <= 1 else 255
  is_black = low == high == 0
  # A comparison with NaN is False.
  if not (is_black or (low >= 0 and _MIN_FRACTION * limit <= high <= limit)):
    raise _make_error(f'{low:.6g} to {high:.6g}', f'0 to {limit:,}')
  scaled = np.rint(values.astype(np.float32) * np.float32(255 / limit))
  return PIL.Image.fromarray(scaled.astype(np.uint8))


def has_16_bits(image: PIL.Image.Image) -> bool:
  """Whether a file stores 16 bits per colour; before the image is loaded."""
  return any(';16' in str(tile.args) for tile in image.tile)


def check_colours(image: PIL.Image.Image) -> None:
  """Raises ConfigError if colours of 16 bits are in the lowest quarter.

  Args:
    image: loaded image with the upper 8 bits of each colour, as Pillow reads.
  """
  high = max(high for _, high in image.convert('RGB').getextrema())
  if high < _MIN_FRACTION * 255:
    raise _make_error(
      f'at most {256 * high + 255:,}', f'0 to {_MAX_16_BITS:,}, of 16 bits'
    )


def _make_error(values: str, limits: str) -> ConfigError:
  return ConfigError(
    f'its values are {values}, which do not fill the range {limits}, so their '
    'scale is uncertain; scale them to 8 bits, 0 to 255, and save it again'
  )
