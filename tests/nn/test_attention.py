"""Which way attention goes, and what it refuses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax import ops

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
MASK = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)


def test_causal_is_as_a_mask_that_says_so(draw):
  module = mnn.Attention(8, 2)
  variables = draw(module, X, train=False)
  apply = lambda **visible: module.apply(
    variables, X, visible=mnn.Visible(**visible), train=False
  )[0]
  for mask in (None, MASK[:, None]):
    said = ops.causal_mask(5) if mask is None else mask & ops.causal_mask(5)
    np.testing.assert_array_equal(
      apply(mask=mask, causal=True), apply(mask=said)
    )


def test_causal_with_a_cache_is_refused():
  cache = mnn.KeyValues(*[jnp.zeros((2, 9, 2, 4))] * 2)
  visible, decoding = mnn.Visible(causal=True), mnn.Decoding(cache)
  with pytest.raises(ValueError, match='self-attention without a cache'):
    jax.eval_shape(
      lambda: mnn.Attention(8, 2).init(
        jax.random.key(0), X, None, visible, decoding, train=False
      )
    )


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')
