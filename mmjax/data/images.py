"""Decodes, resizes and normalises images.

Images are uint8 [H, W, 3] arrays in RGB until `normalise` makes them float32,
which features do on the device.
"""

import io
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import simplejpeg
from jaxtyping import Float32, UInt8

from mmjax.data import file_paths, git_pointers, image_depth
from mmjax.errors import ConfigError

# Endings of the files that are read as images, by Pillow.
ENDINGS = (
  *('png', 'jpg', 'jpeg', 'jpe', 'jfif', 'jp2', 'webp', 'gif', 'bmp', 'apng'),
  *('tif', 'tiff', 'ppm', 'pgm', 'pbm', 'pnm', 'avif'),
)
RESIZE_METHODS = ('stretch', 'crop', 'pad')
WHITE = (255, 255, 255)

# simplejpeg's: sizes between a half and the whole take longer to decode.
_MIN_FACTOR = 2

# Formats that Pillow would run another program for, Ghostscript.
_PROGRAMS = ('EPS',)

# Errors of Pillow with messages that users understand.
_PILLOW_ERRORS = (
  OSError,
  SyntaxError,
  ValueError,
  PIL.Image.DecompressionBombError,
)
# Keys under which Pillow stores a photo's orientation.
_EXIF_KEYS = ('exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp')
_Transpose = PIL.Image.Transpose
# Transpositions by EXIF's orientation.
_TRANSPOSES = {
  2: _Transpose.FLIP_LEFT_RIGHT,
  3: _Transpose.ROTATE_180,
  4: _Transpose.FLIP_TOP_BOTTOM,
  5: _Transpose.TRANSPOSE,
  6: _Transpose.ROTATE_270,
  7: _Transpose.TRANSVERSE,
  8: _Transpose.ROTATE_90,
}
_LATE_EXIF = re.compile(rb'eXIf|Raw profile type exif|XML:com.adobe.xmp')
# Those that exchange height and width.
_TURNED = tuple(_TRANSPOSES[number] for number in (5, 6, 7, 8))


def decode(
  data: bytes, least: tuple[float, float] | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  """Decodes a PNG, JPEG or other image that Pillow reads.

  Transparent images are blended with white, values of 16 bits and floats are
  scaled to 8 bits as `image_depth.to_8_bits` does, palettes and grey become
  RGB, and a photo's EXIF orientation is applied.

  Args:
    data: the encoded image.
    least: (height, width) that the result has at least, of a JPEG that is
      decoded smaller where it may be: its sides times n / 8, computed from a
      part of its frequencies. None for the whole size.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: if the bytes are not an image, a damaged one, or one whose
      values have an uncertain scale.
  """
  return _decode(data, least)


def check(data: bytes) -> None:
  """Raises ConfigError where `decode` would; it decodes the whole image."""
  _decode(data)


def read_size(data: bytes) -> tuple[int, int]:
  """Reads (height, width) of the array that `decode` makes, by the header.

  Raises:
    ConfigError: if the bytes are not an image.
  """
  try:
    image = PIL.Image.open(io.BytesIO(data))
    if image.format == 'PNG' and _LATE_EXIF.search(data):
      image.load()  # It may stand behind the pixels.
    turned = _find_transpose(image) in _TURNED
  except Exception as error:  # As in `_decode`.
    raise ConfigError(
      f'not a readable image ({len(data)} bytes): {_explain(data, error)}'
    ) from error
  return image.size if turned else image.size[::-1]


def _decode(
  data: bytes, least: tuple[float, float] | None = None
) -> UInt8[np.ndarray, 'H W 3']:
  try:
    image = PIL.Image.open(io.BytesIO(data))  # Reads the header alone.
    if image.format in _PROGRAMS:
      raise ValueError(f'{image.format} is a program; save it as PNG or JPEG')
    if image.format == 'JPEG' and image.mode in ('RGB', 'L'):
      transpose = _find_transpose(image)
      if least is not None and transpose in _TURNED:
        least = least[::-1]
      pixels = _decode_jpeg(data, least)
      # A file may have more than one header.
      if pixels is not None and (least or pixels.shape[1::-1] == image.size):
        if transpose is None:
          return pixels
        return np.asarray(PIL.Image.fromarray(pixels).transpose(transpose))
    has_16_bits = image_depth.has_16_bits(image)
    image.load()
    if has_16_bits and image.mode in ('RGB', 'RGBA'):
      image_depth.check_colours(image)
    return np.asarray(to_rgb(image))
  # Pillow raises many kinds of errors for damaged bytes: struct.error,
  # KeyError, DecompressionBombError, ...
  except Exception as error:
    raise ConfigError(
      f'not a readable image ({len(data)} bytes): {_explain(data, error)}'
    ) from error


def _decode_jpeg(
  data: bytes, least: tuple[float, float] | None
) -> UInt8[np.ndarray, 'H W 3'] | None:
  """Decodes a JPEG faster than Pillow, to the same pixels at its whole size.

  Both use libjpeg-turbo. None leaves to Pillow what is damaged or unusual: its
  pixels or its error count.
  """
  try:
    if least is None:
      return simplejpeg.decode_jpeg(data, 'RGB')
    height, width = map(math.ceil, least)
    return simplejpeg.decode_jpeg(
      data, 'RGB', min_height=height, min_width=width, min_factor=_MIN_FACTOR
    )
  except (ValueError, RuntimeError):
    return None


def _explain(data: bytes, error: Exception) -> str:
  """Explains why Pillow reads no image, in words for users."""
  if isinstance(error, PIL.UnidentifiedImageError):
    if reason := git_pointers.explain(data):
      return f'it is {reason}'
    return f'no format that Pillow reads; it begins with {data[:24]!r}'
  if isinstance(error, _PILLOW_ERRORS) and str(error):
    return str(error)
  return 'its header or data are damaged'


def explain_error(error: Exception) -> str:
  """A library's message, without the addresses of bytes in memory."""
  return re.sub(r'<_io\.BytesIO[^>]*>', 'it', str(error))


def to_array(image: Any) -> UInt8[np.ndarray, 'H W 3']:
  """Converts an image file, a Pillow image or an array to an array.

  Args:
    image: path of a file, Pillow image or uint8 [H, W, 3].

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: if the file can't be read or is not an image, naming it, or an
      array has another shape or type.
  """
  if isinstance(image, str | os.PathLike):
    data = file_paths.read_bytes(image, 'image')
    try:
      return decode(data)
    except ConfigError as error:
      raise ConfigError(f'{image}: {error}') from error
  if isinstance(image, PIL.Image.Image):
    return np.asarray(to_rgb(image))
  array = np.asarray(image)
  if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
    raise ConfigError(
      f'an image is {array.dtype} {list(array.shape)}; pass uint8 [H, W, 3], a '
      "Pillow image or a file's path"
    )
  return array


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  """Converts a Pillow image of any mode to RGB, on white if transparent.

  Raises:
    ConfigError: if its values have an uncertain scale (`image_depth`).
  """
  transpose = _find_transpose(image)
  if transpose is not None:
    image = image.transpose(transpose)
  if image.mode == 'RGB' and 'transparency' not in image.info:
    return image
  if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
    return image_depth.to_8_bits(image).convert('RGB')
  if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or (
    'transparency' in image.info
  ):
    image = image.convert('RGBA')
    canvas = PIL.Image.new('RGB', image.size, WHITE)
    canvas.paste(image, mask=image.getchannel('A'))
    return canvas
  return image.convert('RGB')


def _find_transpose(image: PIL.Image.Image) -> PIL.Image.Transpose | None:
  """What makes a photo upright, by its EXIF or XMP; None for nothing.

  A damaged header is ignored.
  """
  if image.info.keys().isdisjoint(_EXIF_KEYS):
    return None
  try:
    orientation = image.getexif().get(PIL.ExifTags.Base.Orientation)
  except Exception:  # Pillow raises many kinds of errors, as in `_decode`.
    return None
  return _TRANSPOSES.get(orientation)


def resize(
  image: UInt8[np.ndarray, 'H W 3'],
  size: tuple[int, int],
  method: str = 'stretch',
) -> UInt8[np.ndarray, 'h w 3']:
  """Resizes an image with Pillow's antialiased bicubic filter.

  Args:
    image: uint8 [H, W, 3].
    size: (height, width) of the result.
    method: 'stretch' changes the aspect ratio if needed; 'crop' fills the size
      and crops the rest, evenly on both sides; 'pad' fits the whole image and
      pads it with white, evenly on both sides.

  Returns:
    uint8 [size[0], size[1], 3].

  Raises:
    ConfigError: if the method is unknown.
  """
  if method not in RESIZE_METHODS:
    raise ConfigError(
      f'resize method {method!r} is unknown; use one of {RESIZE_METHODS}'
    )
  if image.shape[:2] == tuple(size):
    return image
  height, width = size
  image = PIL.Image.fromarray(image)
  bicubic = PIL.Image.Resampling.BICUBIC
  if method == 'crop':
    image = PIL.ImageOps.fit(image, (width, height), bicubic)
  elif method == 'pad':
    image = PIL.ImageOps.pad(image, (width, height), bicubic, color=WHITE)
  else:
    image = image.resize((width, height), bicubic)
  return np.asarray(image)


def normalise(
  image: UInt8[Any, '*shape 3'],
  mean: Sequence[float],
  std: Sequence[float],
) -> Float32[Any, '*shape 3']:
  """Returns (image / 255 - mean) / std for each channel, as float32.

  Args:
    image: uint8 [..., 3], an array of numpy or JAX.
    mean: each channel's mean, in 0..1.
    std: each channel's standard deviation, in 0..1.

  Returns:
    float32 [..., 3], of the same library.
  """
  shape = (1,) * (image.ndim - 1) + (3,)
  scale = 1 / (255 * np.asarray(std, np.float64))
  shift = np.asarray(mean, np.float64) / std
  scale, shift = (
    factor.astype(np.float32).reshape(shape) for factor in (scale, shift)
  )
  return image.astype(np.float32) * scale - shift
