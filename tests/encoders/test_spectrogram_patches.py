"""The transformer of patches of a spectrogram, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
SOUND = jnp.asarray(
  np.random.default_rng(0).normal(size=(3, 13, 5)), jnp.float32
)

patched = functools.partial(
  encoders.SpectrogramTransformer,
  width=8,
  depth=2,
  num_heads=2,
  mlp_dim=7,
  patch_size=3,
  strides=(2, 4),
  num_bands=5,
)


def test_patches_overlap_and_lie_by_band(draw):
  variables = draw(patched(), SOUND, train=False)
  apply = jax.jit(functools.partial(patched().apply, train=False))
  mask = jnp.asarray([True, True, False])
  out = apply(variables, SOUND, mask)
  # (5 - 3) // 2 + 1 bands by (13 - 3) // 4 + 1 frames, and two learned tokens.
  assert out.values.shape == (3, 8, 8)
  np.testing.assert_array_equal(out.mask, np.repeat(mask[:, None], 8, axis=1))
  close(out.pooled[:2], out.values[:2, :2].mean(axis=1))
  spoilt = apply(variables, jnp.where(mask[:, None, None], SOUND, 1e4), mask)
  close(out.values[:2], spoilt.values[:2])
  params = variables['params']['patches']
  x = patched(depth=0, final_norm=False).apply(variables, SOUND, train=False)
  patch = SOUND[0, 4:7, 2:5].T  # The second band's second frame.
  kernel = params['projection']['kernel'][:, :, 0]
  want = jnp.einsum('mf,mfd->d', patch, kernel) + params['projection']['bias']
  close(x.values[0, 6], want + params['position_table'][6])
  start = params['class_token'][0] + params['position_table'][0]
  close(x.values[0, 0], start)


def test_without_learned_tokens_patches_are_averaged(draw):
  module = patched(tokens=())
  out = module.apply(draw(module, SOUND, train=False), SOUND, train=False)
  close(out.pooled, out.values.mean(axis=1))


def test_a_patch_fits_in():
  with pytest.raises(ValueError, match=r'patch of 6 is larger than .*13, 5'):
    jax.eval_shape(
      lambda: patched(patch_size=6).init(jax.random.key(0), SOUND, train=False)
    )


def test_padding_is_silence_or_a_value():
  module = encoders.FromSamples(patched(), fills_silence=True, padding=0.0)
  samples = jnp.zeros((1, 800))
  with pytest.raises(ValueError, match=r'padding=0.0 both say what padding is'):
    jax.eval_shape(lambda: module.init(jax.random.key(0), samples, train=False))
