"""The data set `shapes_senses`: an image, tones and a clip of one event.

An event has a shape, seen in the image alone, a melody, heard in the tones
alone, and a direction, seen in the clip alone. Its class names all three, so no
field is enough: `BEST` has the best possible accuracy of each subset. Its
number, `total`, is that of the image's objects and of the tones together.
"""

import itertools
import random
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from mmjax.data import audio, builders, melodies, records, shapes_drawing
from mmjax.data import shapes_scenes as scenes

SHAPES = ('circle', 'square', 'triangle', 'star')
DIRECTIONS = {'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
FIELDS = {
  'image': 'image',
  'sound': 'sound',
  'clip': 'video',
  'captions': 'text',
  'event': 'category',
  'total': 'number',
}
SENSES = ('image', 'sound', 'clip')
# Best possible accuracy of `event` from each subset of the senses: each of them
# tells one of four values.
BEST = {
  subset: 4.0 ** (len(subset) - len(SENSES))
  for size in range(1, len(SENSES) + 1)
  for subset in itertools.combinations(SENSES, size)
}

_CLIP_SIZE, _FRAMES, _STEP = 24, 6, 2
_SIZES = {'train': 6_000, 'validation': 500, 'test': 500}
_WORDS = ', '.join(
  f'{" and ".join(subset)} {accuracy:.3f}' for subset, accuracy in BEST.items()
)


class ShapesSenses(builders.RecordBuilder):
  """TFDS builder of `shapes_senses`."""

  name = 'shapes_senses'
  VERSION = tfds.core.Version('1.0.0')
  SUMMARY = (
    'Events with a shape in an image, a melody in a sound and a direction in a '
    f'clip. Best possible accuracy of the class: {_WORDS}.'
  )
  SCHEMA = records.Schema(FIELDS)
  VOCAB_SIZE = 320

  def read_splits(self) -> dict[str, Iterable[records.Record]]:
    return {
      split: self._make_records(split, size) for split, size in _SIZES.items()
    }

  def _make_records(self, split: str, size: int) -> Iterator[records.Record]:
    rng = random.Random(f'shapes_senses {split}')
    for i in range(size):
      yield _make_record(f'{split}-{i:05d}', rng)


def _make_record(name: str, rng: random.Random) -> records.Record:
  shape = rng.choice(SHAPES)
  melody = rng.choice(melodies.NAMES)
  direction = rng.choice(list(DIRECTIONS))
  objects, tones = rng.randint(1, 3), rng.randint(4, 7)
  samples = melodies.make_tones(melody, tones, rng)
  return {
    'id': name,
    'fields': {
      'image': shapes_drawing.encode_png(
        shapes_drawing.draw(_make_scene(shape, objects, rng), rng)
      ),
      'sound': audio.encode_wave(samples, melodies.SAMPLE_RATE),
      'clip': [
        shapes_drawing.encode_png(frame)
        for frame in draw_clip(DIRECTIONS[direction], rng)
      ],
      'captions': [
        f'a {shape}, a {melody} melody, a dot that moves {direction}',
        f'{melody} tones, {direction} goes the dot, and there is a {shape}',
      ],
      'event': [f'{shape} {melody} {direction}'],
      'total': float(objects + tones),
    },
    'metadata': {'shape': shape, 'melody': melody, 'direction': direction},
  }


def _make_scene(shape: str, number: int, rng: random.Random) -> scenes.Scene:
  positions = sorted(rng.sample(range(len(scenes.POSITIONS)), number))
  return tuple(
    scenes.Object(
      'large', rng.choice(scenes.COLORS), shape, scenes.POSITIONS[i]
    )
    for i in positions
  )


def draw_clip(
  direction: tuple[int, int], rng: random.Random
) -> Iterator[np.ndarray]:
  """Draws the frames uint8 [24, 24, 3] of a dot that moves.

  Args:
    direction: how far it moves right and down in a step.
    rng: random generator of the start, the colour and the background. The dot
      leaves at one side and comes back at the other, so that all of its places
      are as likely and no single frame tells the direction.
  """
  start = [rng.randrange(_CLIP_SIZE) for _ in direction]
  color = tuple(rng.randint(0, 120) for _ in range(3))
  paper = rng.randint(200, 255)
  for frame in range(_FRAMES):
    image = Image.new('RGB', (_CLIP_SIZE, _CLIP_SIZE), (paper,) * 3)
    pen = ImageDraw.Draw(image)
    x, y = (
      (first + step * _STEP * frame) % _CLIP_SIZE
      for first, step in zip(start, direction, strict=True)
    )
    for dx, dy in itertools.product((-_CLIP_SIZE, 0, _CLIP_SIZE), repeat=2):
      left, top = x + dx, y + dy
      pen.ellipse((left - 3, top - 3, left + 3, top + 3), fill=color)
    yield np.asarray(image)
