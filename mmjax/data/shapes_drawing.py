"""Draws scenes of the `shapes` data set, 48x48 pixels, antialiased.

Position in the cell, size, colour and background vary a little, so that a scene
has many images and none can be memorised.
"""

import colorsys
import functools
import itertools
import math
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from mmjax.data import shapes_scenes as scenes
from mmjax.errors import ConfigError

IMAGE_SIZE = 48
_CELL = IMAGE_SIZE // 3
_SUPERSAMPLE = 4

# Hue, saturation and value in [0, 1].
_HSV = {
  'red': (0.0, 0.85, 0.88),
  'orange': (0.082, 0.95, 0.98),
  'yellow': (0.145, 0.90, 0.97),
  'green': (0.36, 0.80, 0.62),
  'cyan': (0.5, 0.75, 0.85),
  'blue': (0.62, 0.80, 0.85),
  'purple': (0.775, 0.70, 0.65),
  'gray': (0.0, 0.0, 0.48),
}
# The same as red, green and blue.
COLORS = {name: colorsys.hsv_to_rgb(*hsv) for name, hsv in _HSV.items()}
_HUE_JITTER = 0.012
_VALUE_JITTER = 0.05
_BACKGROUND = (0.86, 0.98)  # Range of values; the saturation is at most 0.05.

# Radii, and largest distances of an object's centre from its cell's, in quarter
# pixels. A large object almost fills its cell.
_RADII = {'small': (15, 16, 17), 'large': (27, 28, 29)}
_JITTERS = {'small': 10, 'large': 3}
# Corners extend further than edges: these factors make equal radii look equal.
_SCALE = {
  'circle': 1.0,
  'square': 0.88,
  'triangle': 1.12,
  'cross': 1.0,
  'star': 1.16,
}


def draw(scene: scenes.Scene, rng: random.Random) -> np.ndarray:
  """Draws a scene as [48, 48, 3] uint8, a little different every time."""
  shade = rng.uniform(*_BACKGROUND)
  background = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.05), shade)
  canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
  canvas[:] = background
  for item in scene:
    radius = rng.choice(_RADII[item.size])
    jitter = _JITTERS[item.size]
    # Centres in quarter pixels, so that few different masks are needed.
    x, y = (
      _SUPERSAMPLE * (_CELL * cell + _CELL // 2) + rng.randint(-jitter, jitter)
      for cell in (item.column, item.row)
    )
    _paint(canvas, item.shape, _jitter(item.color, rng), radius, x, y)
  return (canvas * 255 + 0.5).astype(np.uint8)


def list_drawings(
  step: int,
) -> Iterator[tuple[str, str, np.ndarray]]:
  """Yields all drawings of one object in its cell.

  Args:
    step: distance of neighbouring positions in quarter pixels.

  Yields:
    Size, shape, and the coverage [16, 16] of the cell's pixels, in [0, 1].
  """
  for shape, size in itertools.product(scenes.SHAPES, scenes.SIZES):
    jitter = _JITTERS[size]
    offsets = range(-jitter, jitter + 1, step)
    for radius, x, y in itertools.product(_RADII[size], offsets, offsets):
      canvas = np.zeros((3 * _CELL, 3 * _CELL, 1), np.float32)
      middle = _SUPERSAMPLE * (_CELL + _CELL // 2)
      _paint(canvas, shape, np.ones(1), radius, middle + x, middle + y)
      yield size, shape, canvas[_CELL:-_CELL, _CELL:-_CELL, 0]


def encode_png(pixels: np.ndarray) -> bytes:
  """Encodes pixels [H, W, 3] uint8 as a PNG file.

  On such small images it is four times as fast as Pillow, and files of flat
  colours are smaller.
  """
  height, width, _ = pixels.shape
  rows = np.zeros((height, 1 + 3 * width), np.uint8)  # 0: no filter.
  rows[:, 1:] = pixels.reshape(height, 3 * width)
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)  # 8-bit RGB.
  return b''.join(
    (
      b'\x89PNG\r\n\x1a\n',
      _make_png_chunk(b'IHDR', header),
      _make_png_chunk(b'IDAT', zlib.compress(rows.tobytes(), 3)),
      _make_png_chunk(b'IEND', b''),
    )
  )


def _make_png_chunk(kind: bytes, body: bytes) -> bytes:
  check = zlib.crc32(kind + body)
  return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', check)


def _jitter(color: str, rng: random.Random) -> np.ndarray:
  hue, saturation, value = _HSV[color]
  hue = (hue + rng.uniform(-_HUE_JITTER, _HUE_JITTER)) % 1
  value = min(1, value + rng.uniform(-_VALUE_JITTER, _VALUE_JITTER))
  return np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def _paint(
  canvas: np.ndarray,
  shape: str,
  color: np.ndarray,
  radius: int,
  x: int,
  y: int,
) -> None:
  """Blends one object into a canvas [H, W, 3]; x, y, radius in quarters."""
  column, dx = divmod(x, _SUPERSAMPLE)
  row, dy = divmod(y, _SUPERSAMPLE)
  mask = _draw_mask(shape, radius, dx, dy)
  half = mask.shape[0] // 2
  top, left = row - half, column - half
  # The part beyond the edge of the image is cropped.
  cut_top, cut_left = max(0, -top), max(0, -left)
  window = canvas[top + cut_top : row + half, left + cut_left : column + half]
  mask = mask[cut_top:, cut_left:][: window.shape[0], : window.shape[1]]
  window += mask * (color - window)


@functools.cache
def _draw_mask(shape: str, radius: int, dx: int, dy: int) -> np.ndarray:
  """Draws the coverage [2h, 2h, 1] in [0, 1] of a shape; sizes in quarters."""
  half = math.ceil(radius * 1.2 / _SUPERSAMPLE) + 1
  side = 2 * half * _SUPERSAMPLE
  image = Image.new('L', (side, side))
  center = half * _SUPERSAMPLE
  r = radius * _SCALE[shape]
  x, y = center + dx, center + dy
  pen = ImageDraw.Draw(image)
  if shape == 'circle':
    pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
  else:
    corners = [(x + r * a, y + r * b) for a, b in _list_corners(shape)]
    pen.polygon(corners, fill=255)
  mask = np.asarray(image.reduce(_SUPERSAMPLE), np.float32) / 255
  return mask[..., None]


def _list_corners(shape: str) -> list[tuple[float, float]]:
  """Lists the corners of a shape of radius 1 around (0, 0), y pointing down."""
  if shape == 'square':
    return [(-1, -1), (1, -1), (1, 1), (-1, 1)]
  if shape == 'triangle':
    return [(0, -0.95), (1, 0.8), (-1, 0.8)]
  if shape == 'cross':
    a = 0.34
    right = [(a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1)]
    return right + [(-x, -y) for x, y in right]
  if shape == 'star':
    angles = [math.pi * i / 5 for i in range(10)]
    radii = [1 if i % 2 == 0 else 0.42 for i in range(10)]
    return [
      (r * math.sin(angle), -r * math.cos(angle))
      for r, angle in zip(radii, angles, strict=True)
    ]
  raise ConfigError(f'there is no shape {shape!r}; use one of {scenes.SHAPES}')
