"""FLOPs of products, also inside loops; peaks of known devices."""

import jax
import jax.numpy as jnp
import pytest

from mmjax.training import flops


def _count(function, *shapes):
  return flops.count(jax.jit(function).trace(*map(jnp.zeros, shapes)).jaxpr)


def test_a_product_is_two_per_multiplication():
  assert _count(lambda a, b: a @ b, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
  batched = lambda a, b: jnp.einsum('bij,bjk->bik', a, b)
  assert _count(batched, (2, 3, 5), (2, 5, 7)) == 2 * 2 * 3 * 5 * 7


def test_a_convolution_counts_its_window():
  conv = lambda x, k: jax.lax.conv_general_dilated(
    x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  got = _count(conv, (2, 5, 5, 3), (3, 3, 3, 7))
  # Five places by three weights, but for the two that meet padding.
  assert got == 2 * (2 * 7) * (5 * 3 - 2) ** 2 * 3


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_gradients_of_a_convolution_are_as_xla_counts_them(
  stride, groups, padding
):
  def conv(x, k):
    return jax.lax.conv_general_dilated(
      x,
      k,
      (stride, stride),
      padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )

  x, k = jnp.zeros((2, 11, 13, 4)), jnp.zeros((3, 5, 4 // groups, 6))
  forward = flops.count(jax.jit(conv).trace(x, k).jaxpr)
  y, back = jax.vjp(conv, x, k)
  for function in (lambda y: back(y)[0], lambda y: back(y)[1]):
    traced = jax.jit(function).trace(y)
    assert flops.count(traced.jaxpr) == forward
    # Before XLA rewrites it: groups become something else on CPUs.
    counted = traced.lower().cost_analysis()['flops']
    assert counted == pytest.approx(forward, rel=1e-6)


def test_what_nobody_needs_is_not_counted():
  def gradients(x, w):
    return jax.grad(lambda x, w: jnp.tanh(x @ w).sum(), (0, 1))(x, w)

  product = 2 * 3 * 5 * 7
  assert _count(gradients, (3, 5), (5, 7)) == 3 * product
  assert _count(lambda *a: gradients(*a)[1], (3, 5), (5, 7)) == 2 * product


def test_loops_count_as_often_as_they_run():
  def layers(x, weights):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0]

  assert _count(layers, (3, 5), (11, 5, 5)) == 11 * 2 * 3 * 5 * 5
  rematerialised = jax.value_and_grad(
    lambda x, w: jax.checkpoint(lambda x: jnp.tanh(x @ w))(x).sum()
  )
  # Forward, forward again, and the gradient of x.
  assert _count(rematerialised, (3, 5), (5, 5)) == 3 * 2 * 3 * 5 * 5


def test_a_mapped_product_counts_on_every_device():
  kinds = (jax.sharding.AxisType.Auto,) * 2
  grid = jax.sharding.AbstractMesh((2, 4), ('data', 'tensor'), kinds)
  product = jax.shard_map(
    lambda a, b: a @ b,
    mesh=grid,
    in_specs=(jax.P('data'), jax.P()),
    out_specs=jax.P('data'),
    axis_names={'data'},
  )
  assert _count(product, (6, 5), (5, 7)) == 2 * 6 * 5 * 7


def test_peaks():
  class Device:
    def __init__(self, kind):
      self.device_kind = kind

  assert flops.peak(Device('NVIDIA H100 80GB HBM3')) == 989e12
  assert flops.peak(Device('TPU v5 lite')) == 197e12
  assert flops.peak(Device('TPU v5p')) == 459e12
  assert flops.peak(Device('cpu')) is None
  assert flops.peak_of([Device('TPU v4')] * 4) == 4 * 275e12
  # A device is a core of these, of which a chip has two.
  assert flops.peak_of([Device('TPU v3')] * 8) == 4 * 123e12
  assert flops.peak_of([Device('TPU v2')] * 8) == 4 * 45e12
  assert flops.peak_of([Device('TPU v4'), Device('cpu')]) is None
