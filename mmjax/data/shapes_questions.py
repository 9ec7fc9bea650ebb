"""Questions about scenes of the `shapes` data set, balanced by answer.

Five types: color, shape, count, existence, relation. Whoever sees only the
question should do little better than chance: yes and no come by the toss of a
coin before the question is chosen, and a 'no' is made as hard as the scene
allows (the colour is there, and the shape, but not together).
"""

import collections
import itertools
import random
from collections.abc import Callable

from mmjax.data import shapes_scenes as scenes

TYPES = ('color', 'shape', 'count', 'existence', 'relation')
PER_SCENE = 8

# A question, its answer and the objects that it is about.
_Candidate = tuple[str, str, tuple[scenes.Object, ...]]

# What counting answers are drawn with where a scene allows them; larger ones
# are allowed more rarely.
_COUNT_WEIGHTS = {'0': 1.0, '1': 1.1, '2': 3.0, '3': 12.0}
_OPPOSITE = {
  'to the left of': 'to the right of',
  'to the right of': 'to the left of',
  'above': 'below',
  'below': 'above',
}


def questions(
  scene: scenes.Scene, rng: random.Random, *, held_out: bool
) -> list[dict]:
  """Eight different questions about a scene, each with its answer and type.

  Args:
    scene: the scene.
    rng: source of randomness.
    held_out: whether questions may name held-out shape-colour pairs, and should
      ask about objects of such pairs where they can. Otherwise no question
      does, so that nobody learns to say no to such pairs.

  Returns:
    Entries {'question', 'answers', 'type'} with one answer each.
  """
  chosen = {}
  order = ['relation'] * 2 if len(scene) > 1 else []
  # Relations need two objects; the other types share the rest.
  rest = list(TYPES[:-1])
  rng.shuffle(rest)
  order += rest * 2
  fixed = {}  # Candidates without chance in them are found once.
  for kind in order * 2:
    if len(chosen) == PER_SCENE:
      break
    found = fixed.get(kind) or _ASK[kind](scene, rng, held_out)
    if kind in ('color', 'shape'):
      fixed[kind] = found
    candidates = [one for one in found if one[0] not in chosen]
    if candidates:
      question, answer = _choose(candidates, kind, rng, held_out)
      chosen[question] = {
        'question': question,
        'answers': [answer],
        'type': kind,
      }
  return list(chosen.values())


def _choose(
  candidates: list[_Candidate], kind: str, rng: random.Random, held_out: bool
) -> tuple[str, str]:
  if held_out:
    wanted = [
      candidate
      for candidate in candidates
      if any(scenes.is_held_out(thing) for thing in candidate[2])
    ]
    candidates = wanted or candidates
  if kind == 'count':
    by_answer = collections.defaultdict(list)
    for candidate in candidates:
      by_answer[candidate[1]].append(candidate)
    answers = sorted(by_answer)
    weights = [_COUNT_WEIGHTS[answer] for answer in answers]
    (answer,) = rng.choices(answers, weights)
    candidates = by_answer[answer]
  question, answer, _ = rng.choice(candidates)
  return question, answer


def _ask_color(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del rng, held_out
  return [
    (f'what color is {name}?', thing.color, (thing,))
    for thing in scene
    for name in _names(scene, thing, ('shape', 'size', 'position'))
  ]


def _ask_shape(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del rng, held_out
  return [
    (f'what shape is {name}?', thing.shape, (thing,))
    for thing in scene
    for name in _names(scene, thing, ('color', 'size', 'position'))
  ]


def _ask_count(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del held_out
  candidates = [('how many objects are there?', str(len(scene)), scene)]
  # What isn't there is drawn from all that could be.
  colors, shapes = {rng.choice(scenes.COLORS)}, {rng.choice(scenes.SHAPES)}
  for color in sorted(colors | {thing.color for thing in scene}):
    about = tuple(thing for thing in scene if thing.color == color)
    question = f'how many {color} objects are there?'
    candidates.append((question, str(len(about)), about))
  for shape in sorted(shapes | {thing.shape for thing in scene}):
    about = tuple(thing for thing in scene if thing.shape == shape)
    question = f'how many {_plural(shape)} are there?'
    candidates.append((question, str(len(about)), about))
  return candidates


def _ask_existence(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  if rng.random() < 0.5:
    return [
      (f'is there a {thing.color} {thing.shape}?', 'yes', (thing,))
      for thing in scene
    ]
  there = {thing.pair for thing in scene}
  absent = [
    pair
    for pair in scenes.PAIRS
    if pair not in there and (held_out or pair not in scenes.HELD_OUT)
  ]
  colors = {thing.color for thing in scene}
  shapes = {thing.shape for thing in scene}

  def likeness(pair: tuple[str, str]) -> int:
    return (pair[0] in shapes) + (pair[1] in colors)

  closest = max(map(likeness, absent))
  return [
    (f'is there a {color} {shape}?', 'no', ())
    for shape, color in absent
    if likeness((shape, color)) == closest
  ]


def _ask_relation(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del held_out
  pairs = collections.Counter(thing.pair for thing in scene)
  if rng.random() < 0.25:
    return _ask_neighbor(scene)
  answer = rng.choice(('yes', 'no'))
  candidates = []
  for first, second in itertools.permutations(scene, 2):
    if pairs[first.pair] > 1 or pairs[second.pair] > 1:
      continue
    true = _relations(first, second)
    # A 'no' is the opposite of what holds: side by side is neither.
    for relation in true if answer == 'yes' else map(_OPPOSITE.get, true):
      question = (
        f'is the {first.color} {first.shape} {relation} '
        f'the {second.color} {second.shape}?'
      )
      candidates.append((question, answer, (first, second)))
  return candidates


def _ask_neighbor(scene: scenes.Scene) -> list[_Candidate]:
  """What is on one side of an object, where only one object is."""
  candidates = []
  for thing in scene:
    sides = collections.defaultdict(list)
    for other in scene:
      for relation in _relations(other, thing):
        sides[relation].append(other)
    for relation, there in sides.items():
      if len(there) > 1:
        continue
      about = (there[0], thing)
      for name in _names(scene, thing, ('shape', 'color')):
        where = f'is the object {relation} {name}?'
        candidates += [
          (f'what color {where}', there[0].color, about),
          (f'what shape {where}', there[0].shape, about),
        ]
  return candidates


def _relations(first: scenes.Object, second: scenes.Object) -> list[str]:
  """What `first` is of `second`: at most one a direction of the grid."""
  relations = []
  if first.column != second.column:
    side = 'left' if first.column < second.column else 'right'
    relations.append(f'to the {side} of')
  if first.row != second.row:
    relations.append('above' if first.row < second.row else 'below')
  return relations


def _names(
  scene: scenes.Scene, thing: scenes.Object, attributes: tuple[str, ...]
) -> list[str]:
  """Ways to name an object by one attribute that no other object has."""
  names = []
  for attribute in attributes:
    value = getattr(thing, attribute)
    if [getattr(other, attribute) for other in scene].count(value) > 1:
      continue
    if attribute == 'shape':
      names.append(f'the {value}')
    elif attribute == 'position':
      names.append(f'the object {_place(value)}')
    else:
      names.append(f'the {value} object')
  return names


def _place(position: str) -> str:
  if position == 'center':
    return 'in the center'
  return f'{"on" if position in ("left", "right") else "at"} the {position}'


def _plural(shape: str) -> str:
  return f'{shape}es' if shape == 'cross' else f'{shape}s'


_ASK: dict[str, Callable[..., list[_Candidate]]] = {
  'color': _ask_color,
  'shape': _ask_shape,
  'count': _ask_count,
  'existence': _ask_existence,
  'relation': _ask_relation,
}
