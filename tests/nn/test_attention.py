"""Which way attention goes, and what it refuses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax import ops
from mmjax.parallel import attention_forms, tiled_attention

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


@pytest.mark.parametrize('said', [{'causal': True}, {'window': 2}])
def test_what_is_for_no_cache_is_refused_with_one(said):
  cache = mnn.KeyValues(*[jnp.zeros((2, 9, 2, 4))] * 2)
  visible, decoding = mnn.Visible(**said), mnn.Decoding(cache)
  with pytest.raises(ValueError, match='self-attention without a cache'):
    jax.eval_shape(
      lambda: mnn.Attention(8, 2).init(
        jax.random.key(0), X, None, visible, decoding, train=False
      )
    )


def test_a_prefix_without_causal_is_refused():
  visible = mnn.Visible(prefix_mask=MASK)
  with pytest.raises(ValueError, match='set causal=True'):
    jax.eval_shape(
      lambda: mnn.Attention(8, 2).init(
        jax.random.key(0), X, visible=visible, train=False
      )
    )


STRUCTURES = {
  'everything': mnn.Visible(),
  'padding': mnn.Visible(MASK[:, None]),
  'prefix_mask': mnn.Visible(
    MASK[:, None], causal=True, prefix_mask=MASK.at[:, 2:].set(False)
  ),
  'segments': mnn.Visible(segments=jnp.asarray([[1, 1, 2, 2, 2]])),
  'window': mnn.Visible(causal=True, window=2),
}


@pytest.mark.parametrize('name', STRUCTURES)
def test_tiles_equal_the_plain_form(name, draw, monkeypatch):
  module = mnn.Attention(
    8, 2, num_kv_heads=1, rope_theta=1e4, scale=0.3, softcap=0.9
  )
  variables = draw(module, X, train=False)
  run = lambda: module.apply(
    variables, X, visible=STRUCTURES[name], train=False
  )[0]
  want = jax.jit(run)()
  monkeypatch.setattr(attention_forms, 'WHOLE', 2 * 2 * 5 * 5 - 1)
  monkeypatch.setattr(tiled_attention, 'TILE', 2)
  # Not through the cache of compiled calls, which knows neither.
  got = jax.jit(
    lambda x: module.bind(variables)(x, visible=STRUCTURES[name], train=False)[
      0
    ]
  )(X)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')
