"""Images of scenes: position, size and colour of the objects."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from mmjax.data import shapes_drawing as drawing
from mmjax.data import shapes_scenes as scenes


def _draw(*things, seed=0):
  return drawing.draw(things, random.Random(seed))


def _find_ink(pixels):
  """Finds the pixels that differ from the background in the corners."""
  return np.abs(pixels.astype(int) - pixels[0, 0]).max(-1) > 60


def test_png_keeps_the_pixels():
  pixels = _draw(scenes.Object('large', 'red', 'star', 'center'))
  data = drawing.encode_png(pixels)
  image = Image.open(io.BytesIO(data))
  assert image.format == 'PNG' and image.mode == 'RGB'
  np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize('position', scenes.POSITIONS[1:])
@pytest.mark.parametrize('size', scenes.SIZES)
def test_objects_are_in_their_cells(position, size):
  thing = scenes.Object(size, 'blue', 'circle', position)
  for seed in range(5):
    rows, columns = np.nonzero(_find_ink(_draw(thing, seed=seed)))
    assert int(rows.mean()) // 16 == thing.row
    assert int(columns.mean()) // 16 == thing.column


@pytest.mark.parametrize('shape', scenes.SHAPES)
def test_large_is_larger_than_small(shape):
  areas = {
    size: [
      _find_ink(
        _draw(scenes.Object(size, 'red', shape, 'center'), seed=s)
      ).sum()
      for s in range(10)
    ]
    for size in scenes.SIZES
  }
  assert 2 * max(areas['small']) < min(areas['large'])


def test_colours_stay_apart():
  means = {
    color: [
      _draw(scenes.Object('large', color, 'square', 'center'), seed=s)[
        22:26, 22:26
      ].mean((0, 1))
      for s in range(10)
    ]
    for color in scenes.COLORS
  }
  for color, colors in means.items():
    spread = max(np.linalg.norm(a - b) for a in colors for b in colors)
    for other, others in means.items():
      if other != color:
        gap = min(np.linalg.norm(a - b) for a in colors for b in others)
        assert gap > 0.5 * spread, (color, other)


def test_a_scene_has_many_images():
  scene = (scenes.Object('small', 'green', 'cross', 'left'),)
  rng = random.Random(0)
  images = {drawing.draw(scene, rng).tobytes() for _ in range(20)}
  assert len(images) == 20
