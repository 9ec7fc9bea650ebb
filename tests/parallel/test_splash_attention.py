"""The kernels for TPUs equal plain attention; they compile for a TPU."""

import functools
import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax import ops
from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules, splash_attention
from mmjax.planning import topologies

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-5)
LENGTH = 131
ROW = jnp.arange(LENGTH)
SEGMENTS = jnp.stack([1 + ROW // 50, jnp.where(ROW < 97, 1 + ROW % 2, 0)])
REAL = jnp.stack([ROW % 5 > 0, ROW > LENGTH])[:, None]
CASES = {
  'keys': (
    LENGTH,
    257,
    {'mask': jnp.arange(257) < jnp.array([[[200]], [[0]]])},
  ),
  'causal': (256, 256, {'causal': True}),
  'all': (
    *(LENGTH, LENGTH),
    {'causal': True, 'segments': SEGMENTS, 'mask': REAL},
  ),
}


def _arrays(length, keys, mask=None):
  """Queries, keys and values; what the mask leaves out is NaN."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  query, *others = (
    draw(2, length, 6, 5),
    draw(2, keys, 2, 5),
    draw(2, keys, 2, 5),
  )
  if mask is not None:
    others = [jnp.where(mask[:, 0, :, None, None], x, jnp.nan) for x in others]
  return query, *others


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_kernels_equal_the_plain_form(name, monkeypatch):
  monkeypatch.setattr(splash_attention, 'BLOCK', 128)  # Two or three blocks.
  length, keys, structure = CASES[name]
  mask, segments = (structure.get(n) for n in ('mask', 'segments'))
  inputs = _arrays(length, keys, mask)
  dense = ops.allowed_keys(
    mask,
    earlier=ops.causal_mask(length) if 'causal' in structure else None,
    segments=None if segments is None else (segments, segments),
  )
  splash = functools.partial(
    splash_attention.splash_attention, interpret=True, **structure
  )
  plain = lambda *inputs: ops.dot_product_attention(*inputs, dense)[0]

  def compute(function):
    loss = lambda *inputs: jnp.sum(jnp.sin(function(*inputs)))
    both = lambda *i: (function(*i), jax.grad(loss, (0, 1, 2))(*i))
    return jax.jit(both)(*inputs)

  jax.tree.map(close, compute(splash), compute(plain))


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason='compiling for TPUs needs libtpu, of the extra tpu',
)
def test_attention_is_compiled_to_kernels_for_the_devices_of_a_slice():
  topologies.prepare('v5e:2x2')
  mesh = mesh_lib.build({'data': 2, 'tensor': 2}, topologies.devices('v5e:2x2'))
  layer = mnn.Attention(64, 4, num_kv_heads=2, dtype=jnp.bfloat16)

  def put(x, *spec):
    place = jax.NamedSharding(mesh, jax.P(*spec))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

  def loss(params, x, mask):
    visible = mnn.Visible(mask, causal=True)
    out = layer.apply(params, x, visible=visible, train=False)[0]
    return jnp.sum(out.astype(jnp.float32))

  x = jax.ShapeDtypeStruct((4, 512, 64), jnp.bfloat16)
  mask = jax.ShapeDtypeStruct((4, 1, 512), bool)
  init = lambda x: layer.init(jax.random.key(0), x, train=False)
  boxed = jax.eval_shape(init, x)
  params = jax.tree.map(
    lambda x, place: put(x, *place.spec),
    nn.meta.unbox(boxed),
    rules.shardings(boxed, mesh),
  )
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules.RULES):
    traced = jax.jit(jax.grad(loss)).trace(
      params, put(x, 'data'), put(mask, 'data')
    )
    text = traced.lower().compile().as_text()
  # Values, gradients of queries, and of keys and values.
  kernels = [line for line in text.splitlines() if 'tpu_custom_call' in line]
  assert len(kernels) == 3
  # A device's two examples and two heads, in each of them.
  assert all('bf16[2,2,512,16]' in line for line in kernels)
  assert 'all-gather' not in text
