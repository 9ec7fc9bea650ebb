"""Questions are true, balanced, and don't name held-out pairs."""

import collections
import random
import re

import pytest

from mmjax.data import shapes_questions as questions
from mmjax.data import shapes_scenes as scenes

# Two objects, with everything different.
SCENE = (
  scenes.Object('small', 'orange', 'circle', 'top left'),
  scenes.Object('large', 'gray', 'square', 'right'),
)


def _write_many(count=600, held_out=False):
  rng = random.Random(0)
  for _ in range(count):
    scene = scenes.sample_scene(rng, held_out=held_out)
    for entry in questions.write_questions(scene, rng, held_out=held_out):
      yield scene, entry['question'], entry['answers'], entry['type']


def test_answers_about_a_scene():
  answers = {}
  for seed in range(200):
    rng = random.Random(seed)
    for entry in questions.write_questions(SCENE, rng, held_out=False):
      answers[entry['question']] = (entry['answers'], entry['type'])
  expected = {
    'what color is the circle?': ('orange', 'color'),
    'what color is the large object?': ('gray', 'color'),
    'what color is the object at the top left?': ('orange', 'color'),
    'what shape is the gray object?': ('square', 'shape'),
    'what shape is the object on the right?': ('square', 'shape'),
    'how many objects are there?': ('2', 'count'),
    'how many circles are there?': ('1', 'count'),
    'how many crosses are there?': ('0', 'count'),
    'is there a gray square?': ('yes', 'existence'),
    'is there a gray circle?': ('no', 'existence'),
    'is the orange circle above the gray square?': ('yes', 'relation'),
    'is the orange circle below the gray square?': ('no', 'relation'),
    'is the gray square to the right of the orange circle?': (
      'yes',
      'relation',
    ),
    'what color is the object above the square?': ('orange', 'relation'),
    'what shape is the object to the right of the orange object?': (
      'square',
      'relation',
    ),
  }
  for question, (answer, kind) in expected.items():
    assert answers[question] == ([answer], kind), question
  # A 'no' could have been easier: here both words fit, but not together.
  assert 'is there a red star?' not in answers


def test_nothing_is_left_or_right_in_one_column():
  column = (SCENE[0], scenes.Object('large', 'gray', 'square', 'bottom left'))
  for seed in range(100):
    rng = random.Random(seed)
    for entry in questions.write_questions(column, rng, held_out=False):
      assert ' of the ' not in entry['question']


def test_every_scene_has_eight_questions():
  counts = collections.Counter(scene for scene, *_ in _write_many())
  assert set(counts.values()) <= {8, 16, 24}


def test_types_are_balanced():
  counts = collections.Counter(kind for *_, kind in _write_many())
  total = counts.total()
  for kind in questions.TYPES:
    assert counts[kind] / total == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize('held_out', [False, True])
def test_looking_at_the_question_alone_does_not_help(held_out):
  answers = collections.defaultdict(collections.Counter)
  for _, question, (answer,), kind in _write_many(held_out=held_out):
    pattern = re.sub('|'.join(scenes.COLORS), 'COLOR', question)
    pattern = re.sub('|'.join(scenes.SHAPES), 'SHAPE', pattern)
    pattern = re.sub('at the .*|on the .*|in the .*', 'PLACE', pattern)
    answers[kind, pattern][answer] += 1
  best = {
    kind: sum(max(c.values()) for (k, _), c in answers.items() if k == kind)
    / sum(c.total() for (k, _), c in answers.items() if k == kind)
    for kind in questions.TYPES
  }
  most = {
    'color': 0.35 if held_out else 0.3,
    'shape': 0.35,
    'count': 0.55,
    'existence': 0.55,
    'relation': 0.55,
  }
  for kind, accuracy in best.items():
    assert accuracy < most[kind], (kind, best)


def test_held_out_pairs_are_never_named_in_training():
  for _, question, *_ in _write_many():
    for shape, color in scenes.HELD_OUT:
      assert f'{color} {shape}' not in question


def test_compositional_questions_are_about_held_out_objects():
  asked = collections.Counter(
    any(f'{color} {shape}' in question for shape, color in scenes.HELD_OUT)
    for _, question, answer, kind in _write_many(held_out=True)
    if kind == 'existence' and answer == ['yes']
  )
  # A second question may have to be about another object.
  assert asked[True] > 4 * asked[False]
