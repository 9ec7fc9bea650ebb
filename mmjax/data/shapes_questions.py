"""Questions about scenes of the `shapes` data set, balanced by answer.

The types are color, shape, count, existence and relation. A model without the
image should do little better than chance: yes or no is drawn before the
question is chosen, and a 'no' is as hard as the scene allows (it has the colour
and the shape, but not together).
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

# Weights of the answers to count questions among those that a scene allows;
# few scenes allow the larger ones.
_COUNT_WEIGHTS = {'0': 1.0, '1': 1.1, '2': 3.0, '3': 12.0}
_OPPOSITE = {
  'to the left of': 'to the right of',
  'to the right of': 'to the left of',
  'above': 'below',
  'below': 'above',
}


def write_questions(
  scene: scenes.Scene, rng: random.Random, *, held_out: bool
) -> list[dict]:
  """Writes eight different questions about a scene, with answers and types.

  Args:
    scene: the scene.
    rng: random generator.
    held_out: whether questions may name held-out shape-colour pairs, and prefer
      objects of such pairs. Otherwise no question names one, so that models
      don't learn to answer no for them.

  Returns:
    Entries {'question', 'answers', 'type'} with one answer each.
  """
  entries = {}
  order = ['relation'] * 2 if len(scene) > 1 else []
  # Relations need two objects; the other types take turns for the rest.
  rest = list(TYPES[:-1])
  rng.shuffle(rest)
  order += rest * 2
  fixed = {}  # Candidates that are not random are computed once.
  for kind in order * 2:
    if len(entries) == PER_SCENE:
      break
    options = fixed.get(kind) or _ASKERS[kind](scene, rng, held_out)
    if kind in ('color', 'shape'):
      fixed[kind] = options
    candidates = [
      candidate for candidate in options if candidate[0] not in entries
    ]
    if candidates:
      question, answer = _choose(candidates, kind, rng, held_out)
      entries[question] = {
        'question': question,
        'answers': [answer],
        'type': kind,
      }
  return list(entries.values())


def _choose(
  candidates: list[_Candidate], kind: str, rng: random.Random, held_out: bool
) -> tuple[str, str]:
  if held_out:
    preferred = [
      candidate
      for candidate in candidates
      if any(scenes.is_held_out(item) for item in candidate[2])
    ]
    candidates = preferred or candidates
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
    (f'what color is {name}?', item.color, (item,))
    for item in scene
    for name in _list_names(scene, item, ('shape', 'size', 'position'))
  ]


def _ask_shape(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del rng, held_out
  return [
    (f'what shape is {name}?', item.shape, (item,))
    for item in scene
    for name in _list_names(scene, item, ('color', 'size', 'position'))
  ]


def _ask_count(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del held_out
  candidates = [('how many objects are there?', str(len(scene)), scene)]
  # One colour and one shape that the scene may not have.
  colors, shapes = {rng.choice(scenes.COLORS)}, {rng.choice(scenes.SHAPES)}
  for color in sorted(colors | {item.color for item in scene}):
    about = tuple(item for item in scene if item.color == color)
    question = f'how many {color} objects are there?'
    candidates.append((question, str(len(about)), about))
  for shape in sorted(shapes | {item.shape for item in scene}):
    about = tuple(item for item in scene if item.shape == shape)
    question = f'how many {_to_plural(shape)} are there?'
    candidates.append((question, str(len(about)), about))
  return candidates


def _ask_existence(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  if rng.random() < 0.5:
    return [
      (f'is there a {item.color} {item.shape}?', 'yes', (item,))
      for item in scene
    ]
  pairs_in_scene = {item.pair for item in scene}
  absent = [
    pair
    for pair in scenes.PAIRS
    if pair not in pairs_in_scene and (held_out or pair not in scenes.HELD_OUT)
  ]
  colors = {item.color for item in scene}
  shapes = {item.shape for item in scene}

  def count_matches(pair: tuple[str, str]) -> int:
    return (pair[0] in shapes) + (pair[1] in colors)

  closest = max(map(count_matches, absent))
  return [
    (f'is there a {color} {shape}?', 'no', ())
    for shape, color in absent
    if count_matches((shape, color)) == closest
  ]


def _ask_relation(
  scene: scenes.Scene, rng: random.Random, held_out: bool
) -> list[_Candidate]:
  del held_out
  pairs = collections.Counter(item.pair for item in scene)
  if rng.random() < 0.25:
    return _ask_neighbor(scene)
  answer = rng.choice(('yes', 'no'))
  candidates = []
  for first, second in itertools.permutations(scene, 2):
    if pairs[first.pair] > 1 or pairs[second.pair] > 1:
      continue
    relations = _find_relations(first, second)
    # A 'no' names the opposite of a relation that holds.
    for relation in (
      relations if answer == 'yes' else map(_OPPOSITE.get, relations)
    ):
      question = (
        f'is the {first.color} {first.shape} {relation} '
        f'the {second.color} {second.shape}?'
      )
      candidates.append((question, answer, (first, second)))
  return candidates


def _ask_neighbor(scene: scenes.Scene) -> list[_Candidate]:
  """Asks for the object on one side of another, where there is only one."""
  candidates = []
  for item in scene:
    sides = collections.defaultdict(list)
    for other in scene:
      for relation in _find_relations(other, item):
        sides[relation].append(other)
    for relation, neighbors in sides.items():
      if len(neighbors) > 1:
        continue
      about = (neighbors[0], item)
      for name in _list_names(scene, item, ('shape', 'color')):
        where = f'is the object {relation} {name}?'
        candidates += [
          (f'what color {where}', neighbors[0].color, about),
          (f'what shape {where}', neighbors[0].shape, about),
        ]
  return candidates


def _find_relations(first: scenes.Object, second: scenes.Object) -> list[str]:
  """Returns the relations of `first` to `second`, at most one per axis."""
  relations = []
  if first.column != second.column:
    side = 'left' if first.column < second.column else 'right'
    relations.append(f'to the {side} of')
  if first.row != second.row:
    relations.append('above' if first.row < second.row else 'below')
  return relations


def _list_names(
  scene: scenes.Scene, item: scenes.Object, attributes: tuple[str, ...]
) -> list[str]:
  """Lists names of an object by one attribute that no other object has."""
  names = []
  for attribute in attributes:
    value = getattr(item, attribute)
    if [getattr(other, attribute) for other in scene].count(value) > 1:
      continue
    if attribute == 'shape':
      names.append(f'the {value}')
    elif attribute == 'position':
      names.append(f'the object {_format_position(value)}')
    else:
      names.append(f'the {value} object')
  return names


def _format_position(position: str) -> str:
  if position == 'center':
    return 'in the center'
  return f'{"on" if position in ("left", "right") else "at"} the {position}'


def _to_plural(shape: str) -> str:
  return f'{shape}es' if shape == 'cross' else f'{shape}s'


_ASKERS: dict[str, Callable[..., list[_Candidate]]] = {
  'color': _ask_color,
  'shape': _ask_shape,
  'count': _ask_count,
  'existence': _ask_existence,
  'relation': _ask_relation,
}
