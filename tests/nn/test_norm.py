"""Normalisation by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_norms_by_hand(dtype):
  x = jnp.asarray([[2.0, 4.0, 6.0]])
  layernorm = mnn.make_norm('layernorm', 0.0, dtype)
  rmsnorm = mnn.make_norm('rmsnorm', 0.0, dtype)
  key = jax.random.key(0)
  y, _ = layernorm.init_with_output(key, x)
  z, _ = rmsnorm.init_with_output(key, x)
  assert y.dtype == z.dtype == dtype
  rtol = 1e-6 if dtype == jnp.float32 else 8e-3  # One bit of the mantissa.
  expected = np.asarray([[-1, 0, 1]]) * 1.5**0.5
  np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=rtol)
  np.testing.assert_allclose(
    z.astype(jnp.float32), np.asarray([[2, 4, 6]]) / (56 / 3) ** 0.5, rtol=rtol
  )


def test_an_offset_norm_starts_at_one_and_adds_to_it():
  x = jnp.asarray([[[2.0, 4.0, 6.0]]])
  plain = mnn.make_norm('rmsnorm', 1e-6, jnp.float32)
  offset = mnn.make_norm('offset_rmsnorm', 1e-6, jnp.float32)
  want, _ = plain.init_with_output(jax.random.key(0), x)
  got, variables = offset.init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  scale = jnp.asarray([0.5, 0.0, -1.0])
  got = offset.apply({'params': {'scale': scale}}, x)
  np.testing.assert_allclose(got[0, 0], want[0, 0] * (1 + scale), rtol=1e-6)
  assert variables['params']['scale'].names == ('norm',)


def test_statistics_of_large_numbers_are_exact():
  # E[x^2] - E[x]^2 would give 0 in float32.
  x = jnp.asarray([[4096.0, 4097.0, 4098.0]])
  y, _ = mnn.make_norm('layernorm', 0.0, jnp.float32).init_with_output(
    jax.random.key(0), x
  )
  np.testing.assert_allclose(y[0, 2], 1.5**0.5, rtol=1e-4)


def test_frozen_batch_norm_by_hand():
  module = mnn.FrozenBatchNorm(epsilon=0.0)
  params = {
    'scale': jnp.asarray([3.0]),
    'bias': jnp.asarray([5.0]),
    'mean': jnp.asarray([1.0]),
    'var': jnp.asarray([4.0]),
  }
  x = jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)

  def loss(params):
    y = module.apply({'params': params}, x)
    return y.sum(), y

  gradient, y = jax.grad(loss, has_aux=True)(params)
  np.testing.assert_array_equal(y.ravel(), [5, 8])
  assert gradient['scale'] == 1  # 0 + 2 / sqrt(4).
  assert gradient['bias'] == 2
  assert gradient['mean'] == gradient['var'] == 0
