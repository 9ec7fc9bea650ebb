"""Connectors shorten tokens, each in its order or in none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError


def test_average_pool_takes_the_mean_of_squares(draw):
  module = mnn.AveragePool(3, 2)
  rows = jnp.arange(4.0)[:, None, None] * 10
  values = (
    rows + jnp.asarray([0.0, 1, 5, 9])[None, :, None] + jnp.zeros((1, 1, 2))
  )
  values = values.reshape(1, 16, 2).at[..., 1].set(1.0)
  params = draw(module, values, train=False)['params']
  means = jnp.asarray([[5.5, 1], [12, 1], [25.5, 1], [32, 1]])
  square = jnp.mean(means**2, axis=1, keepdims=True)
  normed = means / jnp.sqrt(square) * params['norm']['scale'][None]
  got = module.apply({'params': params}, values, train=False)
  want = normed @ params['linear']['dense']['kernel']
  np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-5)
  with pytest.raises(ConfigError, match='average_pool with factor 2 needs'):
    module.apply({'params': params}, values[:, :9], train=False)


def test_squares_of_one_token_are_the_same_joined_or_averaged(draw):
  values = jnp.arange(8.0).reshape(1, 4, 2) ** 2
  settings = {'factor': 1, 'mlp_dim': 5, 'norm': 'layernorm'}
  joined = mnn.PixelShuffle(3, **settings)
  params = draw(joined, values, train=False)
  np.testing.assert_array_equal(
    mnn.AveragePool(3, **settings).apply(params, values, train=False),
    joined.apply(params, values, train=False),
  )


def test_pixel_shuffle_joins_squares():
  values = jnp.arange(32.0).reshape(1, 16, 2)  # A grid of 4 x 4.
  module = mnn.PixelShuffle(8)
  params = {'linear': {'dense': {'kernel': jnp.eye(8), 'bias': jnp.zeros(8)}}}
  out = module.apply({'params': params}, values, train=False)
  assert out.shape == (1, 4, 8)
  # The square of rows 2, 3 and columns 0, 1: tokens 8, 9, 12, 13.
  expected = np.asarray(values[0])[[8, 9, 12, 13]].ravel()
  np.testing.assert_array_equal(out[0, 2], expected)


@pytest.mark.parametrize('number', [8, 9])
def test_a_grid_that_does_not_divide_is_refused(number):
  values = jnp.zeros((1, number, 2))
  with pytest.raises(ValueError, match=f'multiple of it, got {number} tokens'):
    mnn.PixelShuffle(8).init(jax.random.key(0), values, train=False)


def test_a_resampler_sums_up_whatever_the_order_and_no_padding(draw):
  rng = np.random.default_rng(0)
  values = jnp.asarray(rng.normal(size=(2, 5, 6)), jnp.float32)
  mask = jnp.asarray([[True] * 5, [True] * 3 + [False] * 2])
  module = mnn.Resampler(8, 3, 1, 2, 7)
  variables = draw(module, values, mask, train=False)
  out = module.apply(variables, values, mask, train=False)
  assert out.shape == (2, 3, 8)
  spoilt = jnp.where(mask[:, :, None], values, 1e4)
  other = module.apply(variables, spoilt[:, ::-1], mask[:, ::-1], train=False)
  # Sums in another order, in float32.
  np.testing.assert_allclose(other, out, rtol=1e-4, atol=1e-5)
  changed = module.apply(variables, values + 1, mask, train=False)
  assert not np.allclose(changed, out, atol=1e-3)
