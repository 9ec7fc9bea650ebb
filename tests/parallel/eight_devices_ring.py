"""Ring attention equals attention; memory falls with the number of devices.

Run by test_ring_attention.py in a process of eight devices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops
from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import ring_attention, tiled_attention

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
SPLIT = {
  'sequence': {'sequence': 8},
  'batch too': {'data': 2, 'sequence': 4},
  'heads too': {'tensor': 2, 'sequence': 4},
}


@pytest.fixture(autouse=True)
def short_tiles(monkeypatch):
  """Two or three tiles a device, with 11 keys."""
  monkeypatch.setattr(tiled_attention, 'TILE', 1)


def arrays(queries=5, keys=11, heads=6, groups=2):
  """Query, key and value, and a mask with an empty row and column."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = rng.random((2, queries, keys)) < 0.6
  mask[:, 2], mask[:, :, 3 % keys] = False, False
  return (
    draw(2, queries, heads, 4),
    draw(2, keys, groups, 4),
    draw(2, keys, groups, 4),
    jnp.asarray(mask),
  )


def attend(inputs, mask, causal=False, window=None):
  if causal:
    mask = mask & ops.causal_mask(mask.shape[2])
  if window is not None:
    steps = jnp.arange(mask.shape[2])
    mask = mask & (steps[:, None] - steps[None] < window)[None]
  return ops.dot_product_attention(*inputs, mask)[0]


def ring(inputs, mask, **structure):
  return ring_attention.ring_attention(*inputs, mask, **structure)


def compute(attention, *args, **kwargs):
  """Values, and the gradients of a function of them."""

  def loss(inputs):
    mixed = attention(inputs, *args, **kwargs)
    return jnp.sum(mixed.astype(jnp.float32) ** 3), mixed

  return jax.jit(jax.grad(loss, has_aux=True))


def check(sizes, inputs, *args, **kwargs):
  expected = compute(attend, *args, **kwargs)(inputs)
  with jax.set_mesh(mesh_lib.build(sizes)):
    found = compute(ring, *args, **kwargs)(inputs)
  jax.tree.map(close, found, expected)
  return found


@pytest.mark.parametrize('sizes', SPLIT.values(), ids=SPLIT)
@pytest.mark.parametrize('groups', [2, 3])
def test_equals_attention(sizes, groups):
  *inputs, mask = arrays(groups=groups)
  grads, mixed = check(sizes, tuple(inputs), mask)
  # A query that sees no key, and a key that no query sees.
  assert not np.any(mixed[:, 2])
  assert not np.any(grads[1][:, 3])


@pytest.mark.parametrize('part', ['none', 'padding', 'of all examples'])
def test_masks_may_be_the_same_for_all(part):
  *inputs, mask = arrays()
  masks = {'none': None, 'padding': mask[:, :1], 'of all examples': mask[:1]}
  check(SPLIT['batch too'], tuple(inputs), masks[part])


def test_causal():
  *inputs, mask = arrays(queries=11)
  check(SPLIT['sequence'], tuple(inputs), mask, causal=True)
  check(SPLIT['sequence'], tuple(inputs), mask, causal=True, window=4)


def test_fewer_tokens_than_devices():
  *inputs, mask = arrays(queries=3, keys=2)
  check(SPLIT['sequence'], tuple(inputs), mask)


def test_examples_that_the_mesh_does_not_divide():
  *inputs, mask = (x[:1] for x in arrays())
  check(SPLIT['batch too'], tuple(inputs), mask)


def test_unseen_keys_change_neither_value_nor_gradient():
  *inputs, mask = arrays()
  query, key, value = inputs
  spoilt = query, key.at[:, 3].set(np.nan), value.at[:, 3].set(np.inf)
  with jax.set_mesh(mesh_lib.build(SPLIT['sequence'])):
    run = compute(ring, mask)
    expected, found = run(tuple(inputs)), run(spoilt)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bfloat16_is_as_near_to_float32_as_attention_is():
  *inputs, mask = arrays()
  exact = attend(inputs, mask)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tuple(inputs))
  with jax.set_mesh(mesh_lib.build(SPLIT['sequence'])):
    grads, mixed = compute(ring, mask)(half)
  assert {x.dtype for x in jax.tree.leaves((grads, mixed))} == {mixed.dtype}
  assert mixed.dtype == jnp.bfloat16
  far = lambda x: np.abs(x.astype(jnp.float32) - exact).max()
  assert far(mixed) < 1.5 * far(attend(half, mask))


def test_heads_that_do_not_divide_are_refused():
  *inputs, mask = arrays(heads=6, groups=4)
  with (
    jax.set_mesh(mesh_lib.build(SPLIT['sequence'])),
    pytest.raises(ValueError, match=r'6 query heads .* 4 key-value heads'),
  ):
    ring(inputs, mask)


def temporaries(sizes, length, attention=ring):
  """Bytes on each device, for causal attention and its gradients."""
  mesh = mesh_lib.build(sizes)
  sharding = jax.NamedSharding(mesh, jax.P(None, 'sequence'))
  shape = jax.ShapeDtypeStruct(
    (1, length, 2, 8), jnp.float32, sharding=sharding
  )
  mask = jnp.ones((1, 1, length), bool)
  with jax.set_mesh(mesh):
    lowered = compute(attention, mask, causal=True).lower((shape, shape, shape))
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_tokens_a_device(monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', 32)
  two = {'data': 4, 'sequence': 2}
  half = temporaries({'sequence': 8}, 2048)
  whole = temporaries({'sequence': 8}, 4096)
  assert whole < 2.1 * half
  assert temporaries(two, 4096) > 3 * whole
  assert temporaries({'sequence': 8}, 4096, attend) > 10 * whole
