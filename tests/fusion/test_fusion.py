"""Gates, and a concatenation by hand; `test_contract.py` has the rest."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import fusion
from mmjax.errors import ConfigError
from mmjax.fusion import modalities
from mmjax.types import TokenVectors
from tests.fusion.every_fusion import make_tokens

# Sums in another order, in float32.
TOLERANCE = {'rtol': 1e-5, 'atol': 1e-5}


@pytest.mark.parametrize('gates', ['softmax', 'scalar', 'sigmoid'])
def test_gates_are_of_what_is_there(gates, draw):
  module, tokens = fusion.Gated(6, gates), make_tokens('gated')
  _, sown = module.apply(
    draw(module, tokens, train=False),
    tokens,
    train=False,
    mutable='intermediates',
  )
  (values,) = sown['intermediates']['gates']
  assert values.shape == (3, 2, 6)
  one = np.isclose(values.sum(axis=1), 1, **TOLERANCE)
  assert np.all(one) == (gates != 'sigmoid')
  assert np.all(values[0] > 0)
  same = np.all(values == values[:, :, :1])
  assert same == (gates == 'scalar')
  np.testing.assert_array_equal(values[1, 0], np.zeros(6))
  np.testing.assert_array_equal(values[2, 1], np.zeros(6))


def test_concatenation_without_blocks_by_hand():
  module = fusion.Concat(2)
  given = {
    'a': TokenVectors(
      jnp.ones((1, 1, 1)), jnp.ones((1, 1), bool), jnp.ones((1, 1))
    )
  }
  params = {
    'a_projection': {
      'kernel': jnp.asarray([[3.0, 1.0]]),
      'bias': jnp.asarray([0.0, -1.0]),
    },
    'a_mark': jnp.asarray([1.0, 0.0]),
    'last_norm': {'scale': jnp.ones(2), 'bias': jnp.asarray([0.0, 5.0])},
  }
  out = module.apply({'params': params}, given, train=False)
  # (4, 0) is normalised to (1, -1); epsilon is 1e-6 beside a variance of 4.
  np.testing.assert_allclose(out.pooled, [[1, 4]], rtol=1e-6)


def test_arrays_in_place_of_tokens_are_called_arrays():
  array = jnp.zeros((2, 3, 5))
  with pytest.raises(ConfigError, match=r'got a JAX array \[2, 3, 5\]; pass a'):
    modalities.sort_names(array)
  with pytest.raises(ConfigError, match=r"'x' as a NumPy array \[2, 3, 5\]"):
    modalities.sort_names({'x': np.asarray(array)})
