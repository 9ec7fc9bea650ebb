"""What a sweep tries a field with."""

import numpy as np
import pytest

from mmjax.sweeps import space


def test_choices_of_any_kind_come_back():
  values = (None, True, 2, 0.5, 'a', ('a/', 'b/'), {'name': 'gated'})
  dimension = space.choice(*values)
  assert dimension.wrong() == []
  assert [dimension.value(label) for label in dimension.grid()] == list(values)


@pytest.mark.parametrize(
  ('values', 'a', 'b'),
  [
    (('a', 'b', 'a'), "'a'", "'a'"),
    ((2, 1, True), '1', 'True'),
    ((1.0, 1), '1.0', '1'),
    ((('a',), ['a']), "('a',)", "['a']"),
  ],
)
def test_choices_that_the_study_takes_for_the_same_are_refused(values, a, b):
  (told,) = space.choice(*values).wrong()
  assert told.endswith(f'{a} and {b} are equal; leave one out')


def test_numbers_of_numpy_are_plain():
  dimension = space.choice(np.int64(3), np.float32(0.5), np.bool_(True))
  assert dimension.wrong() == []
  assert [type(value) for value in dimension.values] == [int, float, bool]
  whole = space.integers(np.int64(1), 2).when('a', np.int64(3))
  assert str(whole) == 'integers(1, 2)' and not whole.wrong()
  assert whole.conditions == (('a', (3,)),)
  assert type(whole.conditions[0][1][0]) is int


@pytest.mark.parametrize(
  ('dimension', 'message'),
  [
    (space.uniform('1e-4', '1e-2'), "uniform('1e-4', '1e-2'): '1e-4' is not"),
    (space.loguniform(1e-4, None), 'loguniform(0.0001, None): None is not'),
    (space.loguniform(1, float('inf')), 'inf is not legal'),
    (space.uniform(2, 1), 'uniform(2.0, 1.0) is empty'),
    (space.loguniform(0, 1), 'logarithms need a low above 0'),
    (space.uniform(0, 1, -1), 'step=-1.0 is not above 0'),
    (space.integers(1, 2.5), '2.5 is not legal: a whole number'),
    (space.integers(0, True), 'True is not legal: a whole number'),
    (space.integers(1, 9, 2, log=True), 'log goes with step=1 only'),
    (space.choice({1, 2}), 'choice({1, 2}): {1, 2} is not legal: plain data'),
    (space.choice((np.int64(1),)), 'is not legal: plain data'),
    (space.choice(), 'choice() has no values'),
  ],
)
def test_mistakes_name_what_was_written(dimension, message):
  assert message in dimension.wrong()[0]


def test_floats_are_tried_as_trials_have_them():
  for dimension in space.uniform(8, 64), space.loguniform(8, 64):
    assert dimension.tried() == [8, 64]
    assert [type(x) for x in dimension.tried()] == [float, float]
  assert [type(x) for x in space.uniform(8, 64, 8).tried()] == [float, float]


@pytest.mark.parametrize(
  ('dimension', 'has', 'lacks'),
  [
    (space.integers(1, 5, 2), (1, 3, 5), (0, 2, 7, '1')),
    (space.integers(1, 5, log=True), (1, 2, 5), (6,)),
    (space.uniform(0, 0.3, 0.1), (0, 0.3, 0.2), (0.25, None)),
    (space.uniform(0, 1), (), (0.5,)),
    (space.choice('a', ('b',)), ('a', ('b',)), ('b',)),
  ],
)
def test_what_a_field_can_be_given(dimension, has, lacks):
  assert all(map(dimension.has, has))
  assert not any(map(dimension.has, lacks))


def test_conditions_are_followed_to_where_they_begin():
  whole = {
    'a': space.choice(1, 2, 3),
    'b': space.choice('x', 'y').when('a', 1, 2),
    'c': space.integers(1, 2).when('b', 'x').when('a', 2, 3),
  }
  assert space.needed(whole, 'a') == [{}]
  assert space.needed(whole, 'b') == [{'a': 1}, {'a': 2}]
  assert space.needed(whole, 'c') == [{'a': 2, 'b': 'x'}]
