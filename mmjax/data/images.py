"""Pictures: encoded bytes to arrays, of the size a model wants.

Images are uint8 [H, W, 3] arrays in RGB until `normalise` makes them float32.
"""

import functools
import io
import os
import pathlib
from typing import Any

import numpy as np
import PIL
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float32, UInt8

from mmjax.errors import ConfigError

RESIZE_METHODS = ('stretch', 'crop', 'pad')
WHITE = (255, 255, 255)

# Errors of Pillow whose messages are for people.
_WORDED = (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError)
# Where Pillow keeps what says how a photo is turned.
_HEADERS = ('exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp')
_Transpose = PIL.Image.Transpose
# By EXIF's orientation.
_TRANSPOSES = {
  2: _Transpose.FLIP_LEFT_RIGHT,
  3: _Transpose.ROTATE_180,
  4: _Transpose.FLIP_TOP_BOTTOM,
  5: _Transpose.TRANSPOSE,
  6: _Transpose.ROTATE_270,
  7: _Transpose.TRANSVERSE,
  8: _Transpose.ROTATE_90,
}


def decode(data: bytes) -> UInt8[np.ndarray, 'H W 3']:
  """Reads a PNG, JPEG or other picture that Pillow knows.

  Transparency is laid onto white, 16-bit grey is scaled to 8 bits, palettes
  and grey become RGB, and a photo's EXIF rotation is applied.

  Args:
    data: the encoded picture.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: if the bytes are no picture, or a broken one.
  """
  return np.asarray(_read(data))


def check(data: bytes) -> None:
  """Raises ConfigError where `decode` would; it decodes the whole image."""
  _read(data)


def _read(data: bytes) -> PIL.Image.Image:
  try:
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return to_rgb(image)
  # Pillow's readers raise whatever broken bytes lead them to: struct.error,
  # KeyError, DecompressionBombError, ...
  except Exception as error:
    raise ConfigError(
      f'not a readable image ({len(data)} bytes): {_reason(data, error)}'
    ) from error


def _reason(data: bytes, error: Exception) -> str:
  """Why Pillow reads no image, without what only its programmers know."""
  if isinstance(error, PIL.UnidentifiedImageError):
    return f'no format that Pillow reads; it begins with {data[:24]!r}'
  if isinstance(error, _WORDED) and str(error):
    return str(error)
  return 'its header or data are damaged'


def opened(picture: Any) -> UInt8[np.ndarray, 'H W 3']:
  """A picture, whatever form it has.

  Args:
    picture: a file's path, a Pillow image or uint8 [H, W, 3].

  Raises:
    ConfigError: if there is no such file.
    ConfigError: if it is no readable picture; it names the file.
  """
  if isinstance(picture, str | os.PathLike):
    try:
      return decode(pathlib.Path(picture).read_bytes())
    except ConfigError as error:
      raise ConfigError(f'{picture}: {error}') from error
  if isinstance(picture, PIL.Image.Image):
    return np.asarray(to_rgb(picture))
  array = np.asarray(picture)
  if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
    raise ConfigError(
      f'a picture is {array.dtype} {list(array.shape)}; give uint8 [H, W, 3], '
      "a Pillow image or a file's path"
    )
  return array


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  """Brings a Pillow image of any mode to RGB, transparency onto white."""
  image = _upright(image)
  if image.mode == 'RGB' and 'transparency' not in image.info:
    return image
  if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
    return _wide_grey(image).convert('RGB')
  if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or (
    'transparency' in image.info
  ):
    image = image.convert('RGBA')
    canvas = PIL.Image.new('RGB', image.size, WHITE)
    canvas.paste(image, mask=image.getchannel('A'))
    return canvas
  return image.convert('RGB')


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
  """Turns a photo as its EXIF or XMP says; one whose header is broken stays."""
  if image.info.keys().isdisjoint(_HEADERS):
    return image
  try:
    orientation = image.getexif().get(PIL.ExifTags.Base.Orientation)
  except Exception:  # As of any of Pillow's readers, see `_read`.
    return image
  if orientation not in _TRANSPOSES:
    return image
  return image.transpose(_TRANSPOSES[orientation])


def _wide_grey(image: PIL.Image.Image) -> PIL.Image.Image:
  """Scales grey of more than 8 bits: 0..65535, or 0..1 in floats, to 0..255."""
  values = np.asarray(image).astype(np.float32)
  scale = 255.0 if image.mode == 'F' and values.max() <= 1 else 1 / 257
  if image.mode == 'F' and values.max() > 1:
    scale = 1.0
  values = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
  return PIL.Image.fromarray(values)


def resize(
  image: UInt8[np.ndarray, 'H W 3'],
  size: tuple[int, int],
  method: str = 'stretch',
) -> UInt8[np.ndarray, 'h w 3']:
  """Brings an image to a size, with Pillow's antialiased bicubic filter.

  Args:
    image: uint8 [H, W, 3].
    size: (height, width) wanted.
    method: 'stretch' changes the aspect ratio where it must; 'crop' fills the
      size and cuts what hangs over, evenly on both sides; 'pad' fits the
      whole image in and fills up with white, evenly on both sides.

  Returns:
    uint8 [size[0], size[1], 3].

  Raises:
    ConfigError: if the method is none of these.
  """
  if method not in RESIZE_METHODS:
    raise ConfigError(
      f'resize method {method!r} is unknown; use one of {RESIZE_METHODS}'
    )
  if image.shape[:2] == tuple(size):
    return image
  height, width = size
  picture = PIL.Image.fromarray(image)
  bicubic = PIL.Image.Resampling.BICUBIC
  if method == 'crop':
    picture = PIL.ImageOps.fit(picture, (width, height), bicubic)
  elif method == 'pad':
    picture = PIL.ImageOps.pad(picture, (width, height), bicubic, color=WHITE)
  else:
    picture = picture.resize((width, height), bicubic)
  return np.asarray(picture)


def normalise(
  image: UInt8[np.ndarray, '*shape 3'],
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
) -> Float32[np.ndarray, '*shape 3']:
  """Returns (image / 255 - mean) / std, a channel at a time, as float32.

  Args:
    image: uint8 [..., 3].
    mean: each channel's mean, in 0..1.
    std: each channel's standard deviation, in 0..1.

  Returns:
    float32 [..., 3].
  """
  width = image.shape[-2] if image.ndim > 1 else 1
  scale, shift = _scale_and_shift(tuple(mean), tuple(std), width)
  values = image.reshape(-1, width * 3).astype(np.float32)
  values *= scale
  values -= shift
  return values.reshape(image.shape)


@functools.lru_cache(maxsize=64)
def _scale_and_shift(
  mean: tuple[float, ...], std: tuple[float, ...], width: int
) -> tuple[np.ndarray, np.ndarray]:
  """For a row of pixels: numpy is slow where the last axis has length 3."""
  scale = 1 / (255 * np.asarray(std, np.float64))
  shift = np.asarray(mean, np.float64) / std
  return (
    np.tile(scale.astype(np.float32), width),
    np.tile(shift.astype(np.float32), width),
  )
