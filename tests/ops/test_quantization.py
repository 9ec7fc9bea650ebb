"""Blocks of int8 and NF4, against quantiles and a plain loop."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.ops import quantization

KERNEL = np.random.default_rng(0).normal(size=(2, 84, 3)).astype(np.float32)
KERNEL[1, 42:, 2] = 0.0  # A block without a scale.


def test_nf4_are_the_quantiles_of_a_normal_distribution():
  """As `create_normal_map` of bitsandbytes makes them."""
  quantile = statistics.NormalDist().inv_cdf
  above = [quantile(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
  below = [-quantile(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
  want = np.sort([*above, 0.0, *below]) / max(above)
  np.testing.assert_allclose(quantization.NF4, want, rtol=0, atol=2e-7)


def _loop(kind, values):
  """What a block of values becomes."""
  scale = max(abs(values))
  table = np.asarray(quantization.NF4)
  if kind == 'int8':
    table = np.arange(-127, 128) / 127
  return [scale * table[np.argmin(abs(table * scale - v))] for v in values]


@pytest.mark.parametrize('kind', quantization.KINDS)
def test_each_weight_becomes_the_nearest_of_its_block(kind):
  packed = quantization.quantize(jnp.asarray(KERNEL), 1, kind)
  assert packed.shape == KERNEL.shape and packed.kind == kind
  size = {'int8': 42, 'nf4': 21}[kind]
  assert packed.codes.shape == (2, 2, size, 3) and packed.axis == 2
  got = quantization.dequantize(packed)
  for layer, block, output in np.ndindex(2, 2, 3):
    chosen = (layer, slice(42 * block, 42 * block + 42), output)
    want = _loop(kind, KERNEL[chosen])
    np.testing.assert_allclose(got[chosen], want, rtol=0, atol=1e-6)
  if kind == 'nf4':  # The first of a pair is in the higher bits.
    nearest = np.abs(KERNEL[0, 0, 0] / max(abs(KERNEL[0, :42, 0])) - np.array(
      quantization.NF4
    )).argmin()  # fmt: skip
    assert packed.codes[0, 0, 0, 0] >> 4 == nearest


def test_scales_are_stored_as_eight_bit_floats():
  plain = quantization.quantize(jnp.asarray(KERNEL), 1, 'nf4')
  packed = quantization.quantize(jnp.asarray(KERNEL), 1, 'nf4', stacked=1)
  np.testing.assert_array_equal(packed.codes, plain.codes)
  assert packed.scales.dtype == jnp.uint8
  assert packed.scale_means.shape == (2, 1, 1, 1)
  means = np.asarray(plain.scales).mean((1, 2, 3), keepdims=True)
  np.testing.assert_allclose(packed.scale_means, means, rtol=1e-6)
  ones = packed._replace(codes=jnp.full_like(packed.codes, 0xFF))
  got = quantization.dequantize(ones).reshape(2, 2, 42, 3)[:, :, :1]
  # Three bits of a float's fraction are rounded.
  distance = np.abs(np.asarray(plain.scales) - means)
  error = np.abs(np.asarray(got) - np.asarray(plain.scales))
  assert error.max() > 0 and (error <= distance / 16 + 1e-6).all()


def test_blocks_divide_the_inputs():
  assert [quantization.find_block(n) for n in (64, 4304, 588, 1176, 37)] == [
    64, 16, 42, 56, None,
  ]  # fmt: skip
  shape = jax.ShapeDtypeStruct((4, 128, 2, 5), jnp.float32)
  packed = jax.eval_shape(lambda k: quantization.quantize(k, 1, 'int8'), shape)
  assert packed.codes.shape == (4, 2, 64, 2, 5)
  assert packed.scales.shape == (4, 2, 1, 2, 5)
