"""Queries sum up what they see, in a fixed number of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn

VALUES = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 5, 6)), jnp.float32
)


def module(**settings):
  return mnn.QueryTransformer(
    3, width=8, depth=3, num_heads=2, mlp_dim=7, out_width=4, **settings
  )


@pytest.mark.parametrize(('every', 'seeing'), [(1, 3), (2, 2), (3, 1)])
def test_every_nth_block_sees(every, seeing):
  made = module(cross_every=every)
  shapes = jax.eval_shape(
    lambda: made.init(jax.random.key(0), VALUES, train=False)
  )['params']
  crossing = ['cross_attention' in shapes[f'layers_{i}'] for i in range(3)]
  assert sum(crossing) == seeing and crossing[0]


def test_queries_sum_up_whatever_the_order(draw):
  made = module()
  variables = draw(made, VALUES, train=False)
  apply = jax.jit(lambda values: made.apply(variables, values, train=False))
  out = apply(VALUES)
  assert out.shape == (2, 3, 4)
  # Sums in another order, in float32.
  np.testing.assert_allclose(apply(VALUES[:, ::-1]), out, rtol=0, atol=1e-5)
  assert not np.allclose(apply(VALUES + 1), out, atol=1e-3)
  assert not np.allclose(out[:, 0], out[:, 1], atol=1e-3)
