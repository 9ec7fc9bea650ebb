"""What a sweep tries a field with."""

import numpy as np
import optuna
import pytest

from mmjax.sweeps import space


def test_choices_of_any_kind_come_back():
  values = (None, True, 2, 0.5, 'a', ('a/', 'b/'), {'name': 'gated'})
  dimension = space.choice(*values)
  assert dimension.probes() == list(values)
  labels = [optuna.trial.FixedTrial({'a': v}) for v in dimension.grid()]
  assert [dimension.suggest(t, 'a') for t in labels] == list(values)


def test_numbers_of_numpy_are_plain():
  dimension = space.choice(np.int64(3), np.float32(0.5), np.bool_(True))
  assert [type(value) for value in dimension.values] == [int, float, bool]
  whole = space.integers(np.int64(1), 2).when('a', np.int64(3))
  assert whole.text == 'integers(1, 2, step=1, log=False)'
  assert type(whole.condition[1][0]) is int


@pytest.mark.parametrize(
  ('make', 'args', 'message'),
  [
    ('uniform', ('1e-4', 1), 'must be real number, not str'),
    ('loguniform', (1, float('inf')), r'\(1, inf\): the ends .* finite'),
    ('uniform', (2, 1), '`low <= high` must hold'),
    ('loguniform', (0, 1), '`low > 0` must hold'),
    ('uniform', (0, 1, -1), '`step > 0` must hold'),
    ('integers', (1, 2.5), "'float' object cannot be interpreted"),
    ('integers', (1, 9, 2, True), 'step is 1'),
    ('choice', ({1, 2},), 'set is not JSON serializable'),
    ('choice', (), r'must contain one or more'),
    ('choice', ('a', 'b', 'a'), r"'b', 'a'\): two values are equal"),
    ('choice', (2, 1, True), 'two values are equal'),
    ('choice', (('a',), ['a']), 'two values are equal'),
  ],
)
def test_arguments_that_are_refused(make, args, message):
  with pytest.raises((ValueError, TypeError), match=message):
    space.NAMES[make](*args)


def test_a_field_depends_on_one_other():
  with pytest.raises(ValueError, match=r'two when\(...\)'):
    space.choice(1, 2).when('a', 1).when('b', 1)


@pytest.mark.parametrize(
  ('dimension', 'probes', 'has', 'lacks'),
  [
    (space.integers(1, 6, 2), [1, 3, 5], (1, 3, 5), (0, 2, 6, 7, '1')),
    (space.integers(1, 5, log=True), [1, 2, 3, 4, 5], (1, 2, 5), (6,)),
    (space.integers(1, 500), [1, 500], (3,), (501,)),
    (space.uniform(0, 0.35, 0.1), [0.0, 0.3], (0, 0.3, 0.2), (0.25, None)),
    (space.uniform(8, 64), [8.0, 64.0], (), (8.0,)),
    (space.loguniform(8, 64), [8.0, 64.0], (), (8.0,)),
    (space.choice('a', ('b',)), ['a', ('b',)], ('a', ('b',)), ('b',)),
  ],
)
def test_values_of_a_field(dimension, probes, has, lacks):
  assert dimension.probes() == probes
  assert list(map(type, dimension.probes())) == list(map(type, probes))
  assert all(map(dimension.has, has))
  assert not any(map(dimension.has, lacks))


def test_conditions_are_followed_to_where_they_begin():
  whole = {
    'a': space.choice(1, 2, 3),
    'b': space.choice('x', 'y').when('a', 1, 2),
    'c': space.integers(1, 2).when('b', 'x'),
  }
  assert space.combinations(whole, 'a') == [{}]
  assert space.combinations(whole, 'b') == [{'a': 1}, {'a': 2}]
  assert space.combinations(whole, 'c') == [
    {'a': 1, 'b': 'x'},
    {'a': 2, 'b': 'x'},
  ]


def test_a_chosen_section_can_have_a_field_of_its_own():
  gated = {'name': 'gated', 'width': 1}
  whole = {
    'fusion': space.choice({'name': 'concat'}, gated),
    'fusion.width': space.integers(2, 6).when('fusion', gated),
  }
  label = '{"name": "gated", "width": 1}'
  trial = optuna.trial.FixedTrial({'fusion': label, 'fusion.width': 5})
  assert space.sample(whole, trial) == {'fusion': gated, 'fusion.width': 5}
  trial = optuna.trial.FixedTrial({'fusion': '{"name": "concat"}'})
  assert space.sample(whole, trial) == {'fusion': {'name': 'concat'}}
