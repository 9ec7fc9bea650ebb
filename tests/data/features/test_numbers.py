"""Numbers are standardised by the training records, series resampled."""

import numpy as np
import pytest

from mmjax.data import features, sources
from mmjax.errors import ConfigError


def make_source(kind, *values):
  rows = [
    {'id': str(i), 'fields': {} if v is None else {'x': v}, 'metadata': {}}
    for i, v in enumerate(values)
  ]
  return sources.ListSource(rows, kinds={'x': kind})


def make(feature, value, seed=None):
  rng = None if seed is None else np.random.default_rng(seed)
  return feature.make_arrays(value, rng, flips=True)


def test_numbers_are_standardised_and_restored():
  source = make_source('number', 1.0, None, 3.0, 8.0)
  fitted = features.Number(name='x').fit(source)
  assert fitted.mean == 4.0
  values = np.array([make(fitted, v)['x'] for v in (1.0, 3.0, 8.0)])
  assert abs(values.mean()) < 1e-6 and abs(values.std() - 1) < 1e-6
  np.testing.assert_allclose(fitted.restore(values), [1, 3, 8], rtol=1e-6)


def test_columns_are_standardised_by_themselves():
  rng = np.random.default_rng(0)
  rows = [rng.normal((0, 100, 7), (1, 50, 0), (n, 3)) for n in (17, 31)]
  fitted = features.Series(name='x').fit(make_source('series', *rows))
  array = np.concatenate([make(fitted, r)['x'][: len(r)] for r in rows])
  np.testing.assert_allclose(array.mean(axis=0), 0, atol=1e-6)
  # A constant column is not divided.
  np.testing.assert_allclose(array.std(axis=0), [1, 1, 0], atol=1e-6)
  assert fitted.std[2] == 1.0


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ([None], "no training record has the field 'x'"),
    ([np.ones(3), np.ones(4)], 'has 4 columns, but those before it 3'),
    ([np.ones(3), np.ones(1)], 'has 1 columns, but those before it 3'),
  ],
)
def test_records_that_do_not_fit_are_refused(values, message):
  with pytest.raises(ConfigError, match=message):
    features.Vector(name='x').fit(make_source('vector', *values))
  fitted = features.Vector(name='x', mean=(0.0,) * 5, std=(1.0,) * 5)
  with pytest.raises(ConfigError, match='field x has 3 columns, not 5'):
    make(fitted, np.ones(3))
  with pytest.raises(
    ConfigError, match=r"x\.mean=.* have 5 numbers, but the field 'x' has 3"
  ):
    fitted.fit(make_source('vector', None, np.ones(3)))


def test_series_of_another_rate_keep_their_frequency():
  feature = features.Series(
    name='x', length=250, stored_rate=40.0, rate=25.0, mean=(0.0,), std=(1.0,)
  )
  time = np.arange(400)[:, None] / 40
  got = make(feature, np.sin(2 * np.pi * 3 * time).astype(np.float32))['x']
  expected = np.sin(2 * np.pi * 3 * np.arange(250) / 25)
  # Away from the ends; the filter keeps 3 of 12.5 Hz to a percent.
  np.testing.assert_allclose(got[20:-20, 0], expected[20:-20], atol=1e-2)
  minutes = features.Series(
    name='x', stored_rate=1.0, rate=1 / 60, mean=(0.0,), std=(1.0,)
  )
  assert make(minutes, np.ones((600, 1)))['x_mask'].sum() == 10


def test_of_longer_series_training_takes_any_part():
  feature = features.Series(name='x', length=3, mean=(0.0,), std=(1.0,))
  value = np.arange(7, dtype=np.float32)[:, None]
  np.testing.assert_array_equal(make(feature, value)['x'][:, 0], [0, 1, 2])
  firsts = set()
  for seed in range(60):
    part = make(feature, value, seed)['x'][:, 0]
    np.testing.assert_array_equal(np.diff(part), [1, 1])
    firsts.add(int(part[0]))
  assert firsts == set(range(5))


def test_points_are_in_the_unit_sphere():
  rng = np.random.default_rng(0)
  value = rng.normal((5, -7, 100, 4), (3, 1, 2, 1), (31, 4)).astype(np.float32)
  fitted = features.Points(name='x', number=40).fit(
    make_source('points', value)
  )
  example = make(fitted, value)
  space = example['x'][:31, :3]
  assert np.linalg.norm(space, axis=1).max() == pytest.approx(1)
  np.testing.assert_allclose(space.mean(axis=0), 0, atol=1e-5)
  assert example['x_mask'].sum() == 31
  np.testing.assert_allclose(example['x'][:31, 3].std(), 1, atol=1e-5)
  # Moved and scaled, they are the same.
  moved = value * [3, 3, 3, 1] + [1, 2, 3, 0]
  np.testing.assert_allclose(make(fitted, moved)['x'], example['x'], atol=1e-5)
  one = make(fitted, np.ones((1, 4)))['x']
  np.testing.assert_array_equal(one[:, :3], 0)


def test_of_many_points_training_takes_different_ones():
  feature = features.Points(name='x', number=5, mean=(0.0,) * 4, std=(1.0,) * 4)
  value = np.zeros((11, 4), np.float32)
  value[:, 3] = np.arange(11)
  chosen = make(feature, value)['x'][:, 3]
  np.testing.assert_array_equal(chosen, [0, 2, 5, 7, 10])
  trained = [make(feature, value, seed)['x'][:, 3] for seed in range(20)]
  assert all(len(set(part)) == 5 for part in trained)
  assert {int(n) for part in trained for n in part} == set(range(11))
