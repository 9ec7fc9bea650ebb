"""The halves of an autoencoder of sounds: what their outputs depend on."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import nn as mnn

SAMPLES = np.random.default_rng(0).normal(size=(2, 121)).astype(np.float32)
LAYOUT = functools.partial(mnn.SoundLayout, 3, (3, 2), lstm_layers=1)


def make(causal, **settings):
  layout = LAYOUT(causal=causal)
  encoder = mnn.SoundEncoder(layout, 5, **settings)
  decoder = mnn.SoundDecoder(layout, **settings)
  key, vectors = jax.random.key(0), jnp.zeros((1, 2, 5))
  params = nn.meta.unbox(
    (encoder.init(key, SAMPLES[:1]), decoder.init(key, vectors))
  )

  @jax.jit
  def apply(params, samples):
    encoded = encoder.apply(params[0], samples)
    return encoded, decoder.apply(params[1], encoded)

  return params, apply


def test_a_causal_codec_hears_nothing_from_later():
  later = SAMPLES.copy()
  later[:, 72:] += 1
  for causal in (True, False):
    params, apply = make(causal)
    vectors, decoded = apply(params, SAMPLES)
    # 121 samples are 21 steps of 6, of which the first mirror up to seven.
    assert vectors.shape == (2, 21, 5) and decoded.shape == (2, 126)
    changed = apply(params, later)
    for before, after, start in (
      (vectors, changed[0], 12),
      (decoded, changed[1], 72),
    ):
      gap = np.abs(before - after)
      assert np.all(gap[:, :start] < 1e-6) == causal
      assert gap[:, start:].max() > 1e-3


def test_kernels_are_directions_and_half_precision_is_near():
  params, apply = make(True)
  vectors, decoded = apply(params, SAMPLES)
  longer = jax.tree.map_with_path(
    lambda path, x: 2 * x if path[-1].key == 'kernel' else x, params
  )
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
  jax.tree.map(close, apply(longer, SAMPLES), (vectors, decoded))
  half_vectors, half_decoded = make(True, dtype=jnp.bfloat16)[1](
    params, SAMPLES
  )
  assert half_vectors.dtype == jnp.bfloat16
  assert half_decoded.dtype == jnp.float32
  # 8 bits of fraction, over some ten layers.
  error = np.abs(half_vectors.astype(jnp.float32) - vectors).max()
  assert error < 0.05 * np.abs(vectors).max()
