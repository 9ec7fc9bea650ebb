"""Pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn

VALUES = jnp.asarray([[[1.0], [3.0], [8.0]]])


@pytest.mark.parametrize(
  'kind, expected', [('mean', 2), ('first', 1), ('last', 3)]
)
def test_pools_by_hand(kind, expected):
  mask = jnp.asarray([[True, True, False]])
  assert mnn.pool(kind, VALUES, mask) == expected


def test_unknown_pools_are_refused():
  with pytest.raises(ValueError, match=r"pool 'max' is unknown; use one of"):
    mnn.pool('max', VALUES, jnp.ones((1, 3), bool))


def test_attention_pool_ignores_padding_and_order(draw):
  module = mnn.AttentionPool(8, 2, 11)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 8)), jnp.float32)
  mask = jnp.asarray([[True, True, True, False, False]])
  variables = draw(module, x, mask, train=False)
  apply = jax.jit(functools.partial(module.apply, train=False))
  pooled = apply(variables, x, mask)
  assert pooled.shape == (1, 8)
  # Sums in another order, in float32.
  close = functools.partial(np.testing.assert_allclose, atol=1e-5)
  close(apply(variables, x.at[:, 3:].set(1e4), mask), pooled)
  order = np.asarray([4, 2, 0, 3, 1])
  close(apply(variables, x[:, order], mask[:, order]), pooled)
  close(apply(variables, x[:, :3], mask[:, :3]), pooled)
