"""Attention in tiles equals attention; its memory grows with the length."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops
from mmjax.parallel import attention_forms, tiled_attention
from mmjax.parallel import mesh as mesh_lib
from mmjax.training import flops

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
LENGTH = 7
SEGMENTS = jnp.asarray([[1, 1, 2, 2, 2, 3, 0], [1, 2, 2, 2, 0, 0, 0]])
PREFIX = jnp.asarray([[1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool)
KEYS = jnp.asarray([[[1, 1, 0, 1, 1, 1, 1]], [[1, 1, 1, 1, 0, 0, 0]]], bool)
# The arguments, and the mask that says the same.
EARLIER = ops.causal_mask(LENGTH)
SAME = SEGMENTS[:, :, None] == SEGMENTS[:, None]
REAL = (SEGMENTS > 0)[:, None]
BOTH = PREFIX[:, :, None] & PREFIX[:, None]
# Two images, of which none has tokens of the other.
BLOCKS = jnp.asarray([[0, 1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 3, 3]])
IMAGES = (BLOCKS[:, :, None] == BLOCKS[:, None]) & (BLOCKS[:, None] > 0)
STEPS = jnp.arange(LENGTH)
RECENT = (STEPS[:, None] - STEPS[None] < 3)[None]
STRUCTURES = {
  'everything': ({}, None),
  'keys': ({'mask': KEYS}, KEYS),
  'causal': ({'causal': True}, EARLIER),
  'segments': ({'segments': SEGMENTS}, SAME & REAL),
  'prefix_mask': (
    {'mask': KEYS, 'causal': True, 'prefix_mask': PREFIX},
    KEYS & (EARLIER | BOTH),
  ),
  'all': (
    {'causal': True, 'segments': SEGMENTS, 'prefix_mask': PREFIX},
    SAME & REAL & (EARLIER | BOTH),
  ),
  'window': (
    {'causal': True, 'prefix_mask': BLOCKS, 'window': 3},
    (EARLIER | IMAGES) & RECENT,
  ),
}


def arrays(dtype=jnp.float32, keys=LENGTH):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  return draw(2, LENGTH, 6, 4), draw(2, keys, 2, 4), draw(2, keys, 2, 4)


def compute(attention, inputs):
  """Values, and the gradients of a function of them."""
  loss = lambda inputs: jnp.sum(jnp.sin(attention(*inputs)))
  both = lambda inputs: (attention(*inputs), jax.grad(loss)(inputs))
  return jax.jit(both)(inputs)


def test_capped_logits_equal_the_plain_form(monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', 3)
  compare = lambda attention: compute(
    functools.partial(attention, softcap=0.5, scale=1.0), arrays()
  )
  plain = lambda *inputs, **more: ops.dot_product_attention(
    *inputs, EARLIER, **more
  )[0]
  tiled = functools.partial(tiled_attention.tiled_attention, causal=True)
  jax.tree.map(close, compare(tiled), compare(plain))


@pytest.mark.parametrize('name', STRUCTURES)
@pytest.mark.parametrize('tile', [3, 4])  # Padded, and a last tile of one key.
def test_tiles_equal_the_plain_form(name, tile, monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', tile)
  structure, mask = STRUCTURES[name]
  tiled = functools.partial(tiled_attention.tiled_attention, **structure)
  plain = lambda *inputs: ops.dot_product_attention(*inputs, mask)[0]
  inputs = arrays()
  want = compute(plain, inputs)
  jax.tree.map(close, compute(tiled, inputs), want)


def test_keys_that_no_query_uses_may_be_anything(monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', 3)
  query, key, value = arrays()
  unused = ~KEYS[:, 0, :, None, None]
  tiled = functools.partial(tiled_attention.tiled_attention, mask=KEYS)
  spoilt = query, *(jnp.where(unused, jnp.nan, x) for x in (key, value))
  want = compute(tiled, (query, key, value))
  jax.tree.map(np.testing.assert_array_equal, compute(tiled, spoilt), want)


def test_bfloat16_and_other_lengths(monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', 2)
  inputs = arrays(jnp.bfloat16, keys=5)
  plain = lambda *inputs: ops.dot_product_attention(*inputs)[0]
  want = compute(plain, inputs)
  got = compute(tiled_attention.tiled_attention, inputs)
  near = lambda a, b: close(  # 8 bits.
    np.asarray(a, np.float32), np.asarray(b, np.float32), atol=5e-2
  )
  jax.tree.map(near, got, want)
  assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.bfloat16.dtype}


def test_queries_leave_out_later_keys():
  def work(length, **structure):
    inputs = [jax.ShapeDtypeStruct((1, length, 2, 4), jnp.float32)] * 3
    loss = lambda *inputs: jnp.sum(
      tiled_attention.tiled_attention(*inputs, **structure)
    )
    return flops.count(jax.jit(jax.grad(loss, (0, 1, 2))).trace(*inputs).jaxpr)

  tile = tiled_attention.CPU_TILE
  assert work(2 * tile, causal=True) == 3 / 4 * work(2 * tile)
  assert work(8 * tile, causal=True) == 5 / 8 * work(8 * tile)


def temporaries(length):
  shape = jax.ShapeDtypeStruct((1, length, 2, 4), jnp.float32)
  loss = lambda *inputs: jnp.sum(
    tiled_attention.tiled_attention(*inputs, causal=True)
  )
  lowered = jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape)
  return lowered.compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_length():
  # Plain attention of 2,048 tokens has 33 MB of logits.
  assert temporaries(2048) < min(2.2 * temporaries(1024), 33e6)


def test_the_form_depends_on_the_size():
  def choose(batch, length, keys, **given):
    query, key = (jnp.zeros((batch, n, 4, 2)) for n in (length, keys))
    settings = {'own': True, 'needs_weights': False, **given}
    return attention_forms.choose(query, key, **settings)

  long = 2048
  assert choose(1, long, long) == 'plain'  # Just as many as are computed.
  assert choose(2, long, long) == 'tiled'
  assert choose(2, long, long, own=False) == 'tiled'
  assert choose(2, long, long, needs_weights=True) == 'plain'
  assert choose(64, 256, 512) == 'plain'  # One tile.
  causal = functools.partial(choose, 1, causal=True)
  assert causal(512, 512) == 'tiled'  # Later keys are left out.
  assert causal(511, 511) == 'plain'
  with attention_forms.only_plain():
    assert choose(2, long, long) == 'plain'


def test_accelerators_have_kernels_for_long_sequences(monkeypatch):
  def choose(platform, length=512, keys=512, batch=2, **given):
    monkeypatch.setattr(mesh_lib, 'platform', lambda: platform)
    shapes = ((batch, n, 4, 8) for n in (length, keys))
    query, key = (jnp.zeros(shape, 'bfloat16') for shape in shapes)
    settings = {'own': True, 'needs_weights': False, 'masked': 'keys', **given}
    return attention_forms.choose(query, key, **settings)

  assert choose('cpu') == 'plain'
  assert choose('tpu') == 'splash'
  assert choose('tpu', own=False) == 'splash'
  assert choose('tpu', masked='nothing') == 'splash'
  assert choose('tpu', masked='queries') == 'plain'
  assert choose('tpu', needs_weights=True) == 'plain'
  assert choose('tpu', length=1) == choose('tpu', keys=511) == 'plain'
  many = functools.partial(choose, 'tpu', length=384, batch=64)
  assert many(keys=256) == 'splash'  # Whole blocks.
  assert many(keys=255) == many(keys=128) == 'plain'
  assert many(keys=256, batch=32) == 'plain'  # Fewer logits.
  assert choose('gpu') == 'plain'  # There is no cuDNN here.
