"""Each modality alone beside all, and the weights of their losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives, tasks
from mmjax.errors import ConfigError

UNUSED = {'apply': dict, 'rng': jax.random.key(0)}


def test_losses_are_weighted_and_of_the_present_alone():
  rng = np.random.default_rng(0)
  logits = {n: rng.normal(size=(4, 3)).astype(np.float32) for n in 'ab'}
  logits['b'][2] = 0  # Absent there.
  labels = np.asarray([0, 2, 1, 1])
  mask = jnp.asarray([True, True, True, False])
  batch = {'kind': jnp.asarray(labels), 'kind_mask': mask}
  outputs = {f'kind_output_of_{n}': jnp.asarray(x) for n, x in logits.items()}
  objective = objectives.Unimodal('kind', (('a', 2.0), ('b', 0.5)))
  loss, metrics = objective(outputs, batch, **UNUSED)
  nll = {
    n: np.log(np.exp(x).sum(axis=1)) - x[np.arange(4), labels]
    for n, x in logits.items()
  }
  expected = 2 * nll['a'][:3].sum() + 0.5 * nll['b'][:2].sum()
  np.testing.assert_allclose(loss, expected / 3, rtol=1e-5)
  np.testing.assert_allclose(
    metrics['loss_of_b'], nll['b'][:2].mean(), rtol=1e-5
  )
  with pytest.raises(ConfigError, match='needs kind_output_of_c'):
    objectives.Unimodal('kind', (('c', 1.0),))(outputs, batch, **UNUSED)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'weights': {'a': 1.0}}, "target='' names no feature"),
    ({'target': 'kind'}, 'weights is empty'),
    ({'target': 'kind', 'weights': {'a': -1.0}}, 'weights.a=-1.0 is not a n'),
    ({'target': 'kind', 'weights': {'a': 'x'}}, "weights.a='x' is not a num"),
  ],
)
def test_settings_that_are_not_legal_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    tasks.Unimodal(**settings).objective({})


def test_weights_grow_with_the_gain_and_fall_with_the_square_of_the_gap():
  start = dict.fromkeys(('a', 'b', 'c'), (3.0, 3.0))
  # Gains 1, 1 and none; gaps 1, 2 and 3.
  end = {'a': (1.0, 2.0), 'b': (0.0, 2.0), 'c': (0.5, 3.5)}
  weights = objectives.blend_weights(start, end)
  assert weights == pytest.approx({'a': 0.8, 'b': 0.2, 'c': 0.0})
  # A gap that shrank counts as a tenth of the gain.
  end['b'] = (2.1, 2.0)
  weights = objectives.blend_weights(start, end)
  assert weights['b'] == pytest.approx(100 / 101)
  with pytest.raises(ConfigError, match='no validation loss fell'):
    objectives.blend_weights(start, start)
  with pytest.raises(ConfigError, match='measure the same modalities'):
    objectives.blend_weights(start, {'a': (1.0, 1.0)})
