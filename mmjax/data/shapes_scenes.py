"""Scenes of the `shapes` data set, and random sampling of them.

A scene is a tuple of one to three objects, each in its own cell of a 3x3 grid,
in reading order. Five shape-colour pairs are held out: they occur only in the
compositional split.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

SHAPES = ('circle', 'square', 'triangle', 'cross', 'star')
COLORS = (
  'red',
  'orange',
  'yellow',
  'green',
  'cyan',
  'blue',
  'purple',
  'gray',
)
SIZES = ('small', 'large')
POSITIONS = (
  'top left',
  'top',
  'top right',
  'left',
  'center',
  'right',
  'bottom left',
  'bottom',
  'bottom right',
)
_CELLS = {position: cell for cell, position in enumerate(POSITIONS)}

# Every shape occurs once, with five different colours.
HELD_OUT = frozenset(
  {
    ('circle', 'yellow'),
    ('square', 'green'),
    ('triangle', 'purple'),
    ('cross', 'blue'),
    ('star', 'red'),
  }
)
PAIRS = tuple(itertools.product(SHAPES, COLORS))
_UNSEEN = tuple(sorted(HELD_OUT))
TRAINED = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

_OBJECT_COUNTS = (1, 2, 3)
_COUNT_WEIGHTS = (0.1, 0.4, 0.5)
# Probability that an object repeats the colour, or the shape, of an earlier
# one: this gives counts above one, and questions that need both attributes.
_REPEAT = 0.25


class Object(NamedTuple):
  """An object of a scene; all fields are names from the lists above."""

  size: str
  color: str
  shape: str
  position: str

  @property
  def pair(self) -> tuple[str, str]:
    return (self.shape, self.color)

  @property
  def row(self) -> int:
    return _CELLS[self.position] // 3

  @property
  def column(self) -> int:
    return _CELLS[self.position] % 3


Scene = tuple[Object, ...]


def is_held_out(item: Object) -> bool:
  """Whether the object's shape-colour pair is never trained on."""
  return item.pair in HELD_OUT


def sample_scene(rng: random.Random, *, held_out: bool) -> Scene:
  """Samples a scene.

  Args:
    rng: random generator.
    held_out: whether the scene has at least one object of a held-out pair;
      otherwise it has none.
  """
  (count,) = rng.choices(_OBJECT_COUNTS, _COUNT_WEIGHTS)
  cells = sorted(rng.sample(range(9), count))
  pairs = [rng.choice(_UNSEEN if held_out else TRAINED)]
  while len(pairs) < count:
    pair = _draw_pair(rng, pairs)
    if held_out or pair not in HELD_OUT:
      pairs.append(pair)
  rng.shuffle(pairs)
  return tuple(
    Object(rng.choice(SIZES), color, shape, POSITIONS[cell])
    for cell, (shape, color) in zip(cells, pairs, strict=True)
  )


def _draw_pair(
  rng: random.Random, pairs: list[tuple[str, str]]
) -> tuple[str, str]:
  shape, color = rng.choice(PAIRS)
  draw = rng.random()
  if draw < _REPEAT:
    shape = rng.choice(pairs)[0]
  elif draw < 2 * _REPEAT:
    color = rng.choice(pairs)[1]
  return shape, color


def sample_distinct(
  rng: random.Random, count: int, excluded: set[Scene], *, held_out: bool
) -> list[Scene]:
  """Samples scenes that differ from each other and from those in `excluded`.

  Args:
    rng: random generator.
    count: number of scenes.
    excluded: scenes not to use; the new ones are added to it.
    held_out: whether each scene has an object of a held-out pair, as in
      `sample_scene`.
  """
  scenes = []
  while len(scenes) < count:
    scene = sample_scene(rng, held_out=held_out)
    if scene not in excluded:
      excluded.add(scene)
      scenes.append(scene)
  return scenes


def sample_training(
  rng: random.Random, count: int, excluded: set[Scene]
) -> Iterator[Scene]:
  """Samples scenes that are not in `excluded`; small scenes may repeat."""
  while count:
    scene = sample_scene(rng, held_out=False)
    if scene not in excluded:
      count -= 1
      yield scene
