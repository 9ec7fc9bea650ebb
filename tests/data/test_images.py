"""Images of every kind become RGB with the documented sizes and scales."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from mmjax.data import images
from mmjax.errors import ConfigError


def encode(image: PIL.Image.Image, kind: str = 'PNG', **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def make_exif(orientation: int) -> PIL.Image.Exif:
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  return exif


def test_png_survives_exactly():
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (5, 7, 3), np.uint8)
  decoded = images.decode(encode(PIL.Image.fromarray(image)))
  np.testing.assert_array_equal(decoded, image)
  assert decoded.dtype == np.uint8


def test_transparency_is_blended_with_white():
  image = PIL.Image.new('RGBA', (2, 1))
  image.putpixel((0, 0), (255, 0, 0, 255))
  image.putpixel((1, 0), (255, 0, 0, 0))
  decoded = images.decode(encode(image))
  np.testing.assert_array_equal(decoded, [[[255, 0, 0], [255, 255, 255]]])


def test_half_transparent_is_half_white():
  image = PIL.Image.new('RGBA', (1, 1), (0, 0, 0, 127))
  np.testing.assert_array_equal(images.decode(encode(image)), [[[128] * 3]])


def test_palettes_with_and_without_transparency():
  image = PIL.Image.new('P', (2, 1))
  image.putpalette([10, 20, 30, 40, 50, 60])
  image.putpixel((1, 0), 1)
  plain = images.decode(encode(image))
  np.testing.assert_array_equal(plain, [[[10, 20, 30], [40, 50, 60]]])
  clear = images.decode(encode(image, transparency=1))
  np.testing.assert_array_equal(clear, [[[10, 20, 30], [255, 255, 255]]])


@pytest.mark.parametrize(
  ('mode', 'value', 'expected'),
  [
    ('L', 77, [77] * 3),
    ('1', 1, [255] * 3),
    ('I;16', 257 * 141, [141] * 3),
    ('I;16', 0, [0] * 3),
    ('LA', (9, 0), [255] * 3),
    ('LA', (9, 255), [9] * 3),
  ],
)
def test_grey_of_all_depths(mode, value, expected):
  image = PIL.Image.new(mode, (3, 2), value)
  decoded = images.decode(encode(image))
  np.testing.assert_array_equal(decoded, np.broadcast_to(expected, (2, 3, 3)))


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([0, 0.5, 1], [0, 128, 255]),
    ([0.0, 8, 255], [0, 8, 255]),
    (np.array([0, 257 * 3, 65535], np.int32), [0, 3, 255]),
    ([0.0, 1, 40], 'are 0 to 40, which do not fill the range 0 to 255'),
    ([0, 0.1, 0.2], 'are 0 to 0.2, which do not fill the range 0 to 1,'),
    ([0.0, 9, 256], 'are 0 to 256, which'),
    ([-1.0, 0, 1], 'are -1 to 1, which'),
    ([0, 1, np.nan], 'are nan to nan, which'),
    (np.array([0, 4095], np.uint16), '4095, which do not fill the .* 0 to 65'),
    (np.array([0, 70000], np.int32), 'are 0 to 70000, which'),
  ],
)
def test_values_of_other_ranges(values, expected):
  values = np.atleast_2d(values)
  if values.dtype == np.float64:
    values = values.astype(np.float32)
  data = encode(PIL.Image.fromarray(values), 'TIFF')
  if isinstance(expected, list):
    np.testing.assert_array_equal(images.decode(data)[0, :, 0], expected)
    return
  with pytest.raises(ValueError, match=expected):
    images.decode(data)


@pytest.mark.parametrize('channels', [3, 4])
def test_colours_of_16_bits(channels):
  kind = {3: 2, 4: 6}[channels]
  row = np.full((1, channels), 65535, '>u2')
  for value in 257 * 99, 4095:
    row[:, :3] = value
    data = _write_png(struct.pack('>IIBBBBB', 1, 1, 16, kind, 0, 0, 0), row)
    if value > 4095:
      assert images.decode(data).tolist() == [[[99] * 3]]
  with pytest.raises(ValueError, match='are at most 4,095, which do not fill'):
    images.decode(data)


def _write_png(header, row):
  """Writes a PNG of one row."""
  data = b'\x89PNG\r\n\x1a\n'
  pixels = zlib.compress(b'\0' + bytes(row))
  parts = (b'IHDR', header), (b'IDAT', pixels), (b'IEND', b'')
  for kind, part in parts:
    check = struct.pack('>I', zlib.crc32(kind + part))
    data += struct.pack('>I', len(part)) + kind + part + check
  return data


def test_cmyk_and_exif_rotation():
  image = PIL.Image.new('CMYK', (4, 2))
  assert images.decode(encode(image, 'JPEG')).shape == (2, 4, 3)
  # Upright after a rotation by a quarter, clockwise.
  turned = encode(PIL.Image.new('RGB', (4, 2)), 'JPEG', exif=make_exif(6))
  assert images.decode(turned).shape == (4, 2, 3)


@pytest.mark.parametrize(
  ('mode', 'options'),
  [
    *(('RGB', {'subsampling': kind}) for kind in ('4:4:4', '4:2:2', '4:2:0')),
    ('RGB', {'progressive': True, 'quality': 30}),
    ('RGB', {'keep_rgb': True}),
    ('RGB', {'restart_marker_blocks': 1}),
    ('L', {}),
    *(('RGB', {'exif': make_exif(i)}) for i in (1, 2, 6, 7, 9)),
  ],
)
def test_jpeg_pixels_are_those_of_pillow(mode, options, monkeypatch):
  rng = np.random.default_rng(0)
  noise = PIL.Image.fromarray(rng.integers(0, 256, (41, 29, 3), np.uint8))
  smooth = noise.resize((101, 67), PIL.Image.Resampling.BICUBIC)
  files = [encode(x.convert(mode), 'JPEG', **options) for x in (noise, smooth)]
  monkeypatch.setattr(images, 'to_rgb', None)  # What decodes with Pillow.
  fast = [images.decode(data) for data in files]
  monkeypatch.undo()
  monkeypatch.setattr(images, '_decode_jpeg', lambda data, least: None)
  for data, pixels in zip(files, fast, strict=True):
    np.testing.assert_array_equal(pixels, images.decode(data))


@pytest.mark.parametrize('end', [-1, -9, 700, 30])
def test_errors_of_damaged_jpegs_are_those_of_pillow(end, monkeypatch):
  noise = np.random.default_rng(0).integers(0, 256, (41, 29, 3), np.uint8)
  data = encode(PIL.Image.fromarray(noise), 'JPEG')[:end]
  with pytest.raises(ConfigError) as error:
    images.decode(data)
  monkeypatch.setattr(images, '_decode_jpeg', lambda data, least: None)
  with pytest.raises(ConfigError) as expected:
    images.decode(data)
  assert str(error.value) == str(expected.value)


@pytest.mark.parametrize('cut', [0, 5, 40])
def test_broken_images_are_refused(cut):
  noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
  data = encode(PIL.Image.fromarray(noise))[:cut]
  with pytest.raises(ValueError, match=f'not a readable image \\({cut} bytes'):
    images.decode(data)


def test_the_error_quotes_bytes_that_are_not_an_image():
  with pytest.raises(ValueError, match=r"reads; it begins with b'<html>oops'$"):
    images.decode(b'<html>oops')


def test_an_image_that_is_a_program_is_refused():
  data = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
  with pytest.raises(ValueError, match='EPS is a program; save it as PNG'):
    images.decode(data)


def test_resize_methods():
  # 2 rows, 6 columns: black, middle grey, white thirds.
  image = np.zeros((2, 6, 3), np.uint8)
  image[:, 2:4] = 100
  image[:, 4:] = 255
  cropped = images.resize(image, (2, 2), 'crop')
  np.testing.assert_array_equal(cropped, np.full((2, 2, 3), 100))
  padded = images.resize(image, (6, 6), 'pad')
  np.testing.assert_array_equal(padded[2:4], image)
  np.testing.assert_array_equal(padded[:2], np.full((2, 6, 3), 255))
  np.testing.assert_array_equal(padded[4:], np.full((2, 6, 3), 255))
  assert images.resize(image, (3, 5), 'stretch').shape == (3, 5, 3)
  assert images.resize(image, (2, 6)) is image
  with pytest.raises(ValueError, match="'squash' is unknown"):
    images.resize(image, (2, 2), 'squash')


def test_downscaling_is_antialiased():
  stripes = np.zeros((32, 32, 3), np.uint8)
  stripes[:, ::2] = 255
  small = images.resize(stripes, (4, 4))
  assert np.ptp(small.astype(int)) < 30
  assert abs(small.mean() - 127.5) < 2


def test_normalise_by_hand():
  image = np.array([[[0, 51, 255], [255, 0, 102]]], np.uint8)
  mean, std = (0.5, 0.2, 0.0), (0.5, 0.1, 2.0)
  values = images.normalise(image, mean, std)
  expected = [[[-1, 0, 0.5], [1, -2, 0.2]]]
  # Products of float32 numbers below 3.
  np.testing.assert_allclose(values, expected, atol=1e-6)
  assert values.dtype == np.float32


def _add_header(exif):
  """Makes a JPEG of 8 x 4 pixels with these bytes as its EXIF segment."""
  file = io.BytesIO()
  PIL.Image.new('RGB', (8, 4), 'red').save(file, 'JPEG')
  data = file.getvalue()
  segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif
  return data[:2] + segment + data[2:]


@pytest.mark.parametrize('exif', [b'Exif\0\0GARBAGE!', b'Exif\0\0II*\0'])
def test_a_photo_with_a_broken_header_is_not_turned(exif):
  assert images.decode(_add_header(exif)).shape == (4, 8, 3)


def test_orientation_in_xmp():
  file = io.BytesIO()
  xmp = b'<x tiff:Orientation="6"/>'
  PIL.Image.new('RGB', (8, 4)).save(file, 'JPEG', xmp=xmp)
  assert images.decode(file.getvalue()).shape == (8, 4, 3)


def test_a_huge_image_is_refused():
  header = struct.pack('>IIBBBBB', 20000, 20000, 1, 0, 0, 0, 0)
  with pytest.raises(ValueError, match=r'not a readable .*400000000'):
    images.check(_write_png(header, b''))


@pytest.mark.parametrize(
  ('least', 'shape'),
  [((16, 20), (16, 24)), ((16, 25), (24, 36)), ((40, 90), (64, 96))],
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(least, shape):
  rows, columns = np.mgrid[:64, :96]
  pixels = np.stack([rows * 3, columns * 2, rows + columns], axis=-1)
  image = PIL.Image.fromarray(pixels.astype(np.uint8))
  small = images.decode(encode(image, 'JPEG', quality=95), least)
  assert small.shape == (*shape, 3)
  # It is smooth, so that a mean and a few frequencies are alike.
  wanted = images.resize(np.asarray(image), shape).astype(int)
  assert np.abs(small[1:-1, 1:-1] - wanted[1:-1, 1:-1]).max() < 8
  turned = encode(image, 'JPEG', quality=95, exif=make_exif(6))
  assert images.decode(turned, least[::-1]).shape == (*shape[::-1], 3)


def test_a_missing_file_is_named_with_its_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  message = f'^no/cat.png: .*image, no such file .*: {tmp_path}/no/cat.png$'
  with pytest.raises(ConfigError, match=message):
    images.to_array('no/cat.png')
