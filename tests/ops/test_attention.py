"""Attention against a loop in numpy, and what masks rule out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops

# Sums in another order, in float32.
TOLERANCE = {'rtol': 1e-5, 'atol': 1e-6}


def arrays(heads=6, groups=3, seed=0):
  rng = np.random.default_rng(seed)
  query = rng.normal(size=(2, 5, heads, 4)).astype(np.float32)
  key = rng.normal(size=(2, 7, groups, 4)).astype(np.float32)
  value = rng.normal(size=(2, 7, groups, 4)).astype(np.float32)
  mask = rng.random((2, 5, 7)) < 0.6
  mask[:, 2] = False
  mask[:, :, 3] = False
  return tuple(map(jnp.asarray, (query, key, value, mask)))


def by_loop(*arrays):
  query, key, value, mask = map(np.asarray, arrays)
  out = np.zeros_like(query)
  repeats = query.shape[2] // key.shape[2]
  for b, t, h in np.ndindex(query.shape[:3]):
    keys = [s for s in range(key.shape[1]) if mask[b, t, s]]
    if not keys:
      continue
    group = h // repeats
    logits = [query[b, t, h] @ key[b, s, group] / 2 for s in keys]  # sqrt(4)
    weights = np.exp(logits) / np.exp(logits).sum()
    out[b, t, h] = sum(
      w * value[b, s, group] for w, s in zip(weights, keys, strict=True)
    )
  return out


@pytest.mark.parametrize('groups', [1, 2, 3, 6])
def test_equals_a_loop(groups):
  query, key, value, mask = arrays(groups=groups)
  mixed, weights = ops.dot_product_attention(query, key, value, mask)
  np.testing.assert_allclose(
    mixed, by_loop(query, key, value, mask), **TOLERANCE
  )
  assert weights.shape == (2, 6, 5, 7)
  np.testing.assert_allclose(
    weights.sum(-1),
    np.broadcast_to(mask.any(-1)[:, None], (2, 6, 5)),
    **TOLERANCE,
  )


def test_without_mask_equals_all_true():
  query, key, value, _ = arrays()
  mixed, _ = ops.dot_product_attention(query, key, value)
  expected, _ = ops.dot_product_attention(
    query, key, value, jnp.ones((1, 1, 7), bool)
  )
  np.testing.assert_array_equal(mixed, expected)


def test_a_row_without_keys_is_exactly_zero():
  mixed, weights = ops.dot_product_attention(*arrays())
  assert not np.any(mixed[:, 2])
  assert not np.any(weights[:, :, 2])


@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf])
def test_unseen_keys_change_neither_value_nor_gradient(garbage):
  query, key, value, mask = arrays()

  def loss(query, key, value):
    mixed, _ = ops.dot_product_attention(query, key, value, mask)
    return jnp.sum(mixed**2), mixed

  compute = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
  gradients, mixed = compute(query, key, value)
  spoilt_gradients, spoilt = compute(
    query, key.at[:, 3].set(garbage), value.at[:, 3].set(garbage)
  )
  np.testing.assert_array_equal(mixed, spoilt)
  jax.tree.map(np.testing.assert_array_equal, gradients, spoilt_gradients)
  assert not np.any(spoilt_gradients[1][:, 3])


def test_weights_are_float32_in_bfloat16():
  query, key, value, mask = arrays()
  mixed, weights = ops.dot_product_attention(
    *(jnp.asarray(x, jnp.bfloat16) for x in (query, key, value)), mask
  )
  assert mixed.dtype == jnp.bfloat16
  assert weights.dtype == jnp.float32


def test_heads_that_do_not_divide_are_refused():
  query, key, value, _ = arrays(heads=6)
  with pytest.raises(ValueError, match=r'6 query heads.*4 key-value heads'):
    ops.dot_product_attention(
      query, jnp.repeat(key, 4, 2)[:, :, :4], jnp.repeat(value, 4, 2)[:, :, :4]
    )


def test_causal_mask():
  np.testing.assert_array_equal(
    ops.causal_mask(3)[0], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
  )


def test_offsets_and_scale_by_hand():
  query = jnp.ones((1, 1, 2, 4))
  key = jnp.asarray([1.0, 2.0])[None, :, None, None] * jnp.ones((1, 2, 1, 4))
  offsets = jnp.asarray([[[[0.0, -4.0]], [[1.0, 0.0]]]])  # [1, H, 1, S].
  _, weights = ops.dot_product_attention(
    query, key, key, bias=offsets, scale=1.0
  )
  # Products of 4 and 8: the first head's logits are equal.
  want = [[0.5, 0.5], [1 / (1 + np.exp(3)), 1 / (1 + np.exp(-3))]]
  np.testing.assert_allclose(weights[0, :, 0], want, **TOLERANCE)
