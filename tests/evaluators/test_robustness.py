"""Curves of a model whose use of its inputs is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import features, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import robustness

SIZE = 60


@pytest.fixture(scope='module')
def records():
  """Records whose class is the sign of `first`; `second` is of no use."""
  rng = np.random.default_rng(0)
  numbers = rng.choice([-1.0, 1.0], SIZE)
  rows = [
    {
      'id': str(i),
      'fields': {
        'first': float(number),
        'second': float(rng.normal()),
        'kind': ['plus' if number > 0 else 'minus'],
      },
      'metadata': {},
    }
    for i, number in enumerate(numbers)
  ]
  kinds = {'first': 'number', 'second': 'number', 'kind': 'category'}
  return sources.ListSource(rows, kinds=kinds)


@pytest.fixture(scope='module')
def preprocessor(records):
  made = {name: features.Number(name=name) for name in ('first', 'second')} | {
    'kind': features.Category(name='kind')
  }
  made = {name: f.fit(records) for name, f in made.items()}
  return preprocess.Preprocessor(made, None)


def predict(params, batch):
  """Guesses class 0, 'minus', without `first`; `second` changes nothing."""
  number = jnp.where(batch['first_mask'], batch['first'], -1.0)
  return jnp.stack([-number, number + params + 0 * batch['second']], axis=1)


def measure(records, preprocessor, **more):
  points = robustness.measure_curves(
    predict,
    jnp.zeros(()),
    records,
    preprocessor,
    target='kind',
    inputs=('first', 'second'),
    batch_size=16,
    **more,
  )
  curves = {}
  for point in points:
    curves.setdefault(point[:2], {})[point.amount] = point.accuracy
  return points, curves


def test_a_modality_that_is_used_is_missed(records, preprocessor):
  points, curves = measure(records, preprocessor)
  used = curves['absent', 'first']
  assert used[0.0] == 1
  minus = np.mean([r['fields']['kind'] == ['minus'] for r in records])
  assert used[1.0] == pytest.approx(minus)
  values = list(used.values())
  assert values == sorted(values, reverse=True) and values[2] < 1
  assert set(curves['absent', 'second'].values()) == {1.0}
  noisy = curves['noise', 'first']
  assert noisy[0.0] == 1 and noisy[2.0] < noisy[0.25] <= 1
  assert set(curves['noise', 'second'].values()) == {1.0}
  table = robustness.format_curves(points).splitlines()
  assert table[0].split() == ['absent', '0.00', '0.25', '0.50', '0.75', '1.00']
  assert [line.split()[0] for line in table] == [
    'absent',
    'first',
    'second',
    'noise',
    'first',
    'second',
  ]


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'shares': (0.5, 1.5)}, 'share 1.5 of the examples is not in 0..1'),
    ({'noises': (-1.0,)}, 'noise -1.0 is negative'),
  ],
)
def test_impossible_amounts_are_refused(
  settings, message, records, preprocessor
):
  with pytest.raises(ConfigError, match=message):
    measure(records, preprocessor, **settings)


def test_noise_is_of_real_values_alone():
  key = jax.random.key(0)
  values = jnp.asarray([[1.0, 3.0, 100.0]] * 500)
  mask = jnp.asarray([[True, True, False]] * 500)
  noisy = robustness.add_noise(values, mask, key, 2.0)
  np.testing.assert_array_equal(noisy[:, 2], values[:, 2])
  # Twice the deviation of 1 and 3, which is 1; of 500 draws, to a tenth.
  assert float(jnp.std(noisy[:, 0])) == pytest.approx(2.0, rel=0.1)
  ids = jnp.arange(500)[:, None]
  swapped = robustness.add_noise(ids, None, key, 0.5)
  share = float(jnp.mean(swapped != ids))
  assert share == pytest.approx(0.5, abs=0.08)
  assert set(np.ravel(swapped)) <= set(range(500))
