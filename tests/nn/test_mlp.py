"""The MLP by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.nn import mlp


@pytest.mark.parametrize('gated', [False, True])
def test_mlp_by_hand(gated):
  module = mnn.Mlp(1, 1, activation='relu', gated=gated)
  x = jnp.asarray([[[2.0], [-1.0]]])
  params = nn.meta.unbox(module.init(jax.random.key(0), x, train=False))
  values = {'up': (3.0, 1.0), 'down': (2.0, -1.0), 'gate': (1.0, 0.5)}
  for name, layer in params['params'].items():
    kernel, bias = values[name]
    layer['kernel'], layer['bias'] = jnp.full((1, 1), kernel), jnp.full(1, bias)
  y = module.apply(params, x, train=False)
  # up is 7 and -2, gate 2.5 and -0.5: 2 * 7 - 1, or 2 * 2.5 * 7 - 1.
  expected = [34, -1] if gated else [13, -1]
  np.testing.assert_array_equal(y.ravel(), expected)


def test_gelus_by_hand():
  at = {
    name: float(mlp.activation(name)(jnp.asarray(1.0)))
    for name in mlp.ACTIVATIONS
  }
  np.testing.assert_allclose(at['gelu'], 0.841345, atol=1e-5)  # Phi(1).
  np.testing.assert_allclose(at['gelu_tanh'], 0.841192, atol=1e-5)
  quick = 1 / (1 + np.exp(-1.702))
  np.testing.assert_allclose(at['quick_gelu'], quick, atol=1e-5)
  np.testing.assert_allclose(at['silu'], 1 / (1 + np.exp(-1)), atol=1e-5)
