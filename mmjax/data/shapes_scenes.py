"""What a scene of the `shapes` data set is, and how scenes are drawn by lot.

A scene is a tuple of one to three objects, each in its own cell of a 3x3 grid,
in reading order. Five shape-colour pairs are held out: they are in the
compositional split and nowhere else.
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

# Every shape once, five different colours.
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
# How often an object takes its colour or shape from one before it: that is what
# makes counts above one, and questions that need both attributes.
_REPEAT = 0.25


class Object(NamedTuple):
  """One object; all fields are names from the lists above."""

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


def is_held_out(thing: Object) -> bool:
  """Whether the object's shape-colour pair is never trained on."""
  return thing.pair in HELD_OUT


def sample_scene(rng: random.Random, *, held_out: bool) -> Scene:
  """One scene by lot.

  Args:
    rng: source of randomness.
    held_out: whether the scene has at least one object of a held-out pair, or
      none at all.
  """
  (count,) = rng.choices(_OBJECT_COUNTS, _COUNT_WEIGHTS)
  cells = sorted(rng.sample(range(9), count))
  pairs = [rng.choice(_UNSEEN if held_out else TRAINED)]
  while len(pairs) < count:
    pair = _another_pair(rng, pairs)
    if held_out or pair not in HELD_OUT:
      pairs.append(pair)
  rng.shuffle(pairs)
  return tuple(
    Object(rng.choice(SIZES), color, shape, POSITIONS[cell])
    for cell, (shape, color) in zip(cells, pairs, strict=True)
  )


def _another_pair(
  rng: random.Random, pairs: list[tuple[str, str]]
) -> tuple[str, str]:
  shape, color = rng.choice(PAIRS)
  draw = rng.random()
  if draw < _REPEAT:
    shape = rng.choice(pairs)[0]
  elif draw < 2 * _REPEAT:
    color = rng.choice(pairs)[1]
  return shape, color


def distinct_scenes(
  rng: random.Random, count: int, taken: set[Scene], *, held_out: bool
) -> list[Scene]:
  """Scenes that differ from each other and from those in `taken`.

  Args:
    rng: source of randomness.
    count: how many.
    taken: scenes not to use; the new ones are added to it.
    held_out: as in `sample_scene`.
  """
  scenes = []
  while len(scenes) < count:
    scene = sample_scene(rng, held_out=held_out)
    if scene not in taken:
      taken.add(scene)
      scenes.append(scene)
  return scenes


def training_scenes(
  rng: random.Random, count: int, taken: set[Scene]
) -> Iterator[Scene]:
  """Scenes, none of them in `taken`; small ones repeat, drawn anew."""
  while count:
    scene = sample_scene(rng, held_out=False)
    if scene not in taken:
      count -= 1
      yield scene
