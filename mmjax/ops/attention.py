"""Attention as a pure function of arrays."""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmjax.errors import ConfigError

# The logit of a key that a query may not attend to: finite, so that queries
# without any key stay finite.
LOWEST = jnp.finfo(jnp.float32).min


def dot_product_attention(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  value: Float[Array, 'B S G K'],
  mask: Bool[Array, '#B #T S'] | None = None,
  *,
  bias: Float[Array, '#B H T S'] | None = None,
  scale: float | None = None,
  softcap: float | None = None,
) -> tuple[Float[Array, 'B T H K'], Float[Array, 'B H T S']]:
  """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

  Queries are grouped (Ainslie et al. 2023): G key-value heads serve H = G * R
  query heads. The softmax is in float32. Its derivatives are of reverse mode,
  to any order; `jax.jvp` of it is an error.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K], where G divides H.
    value: values [B, S, G, K].
    mask: [B, T, S], True where a query may attend to a key. A query without any
      key gets zeros, whatever the keys and values contain.
    bias: attention bias [B, H, T, S] or [1, H, T, S], added to the logits.
    scale: factor of the dot products; None for K**-0.5.
    softcap: limit of the dot products, as of `cap_softly`; None for none.

  Returns:
    The mixed values [B, T, H, K] and the weights [B, H, T, S] in float32.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  length, heads = query.shape[1:3]
  groups = key.shape[2]
  check_heads(heads, groups)
  if mask is not None:
    # A key that no query uses may contain anything, NaN included, and 0 * NaN
    # would spoil the sums below and their gradients.
    used = jnp.any(mask, axis=1)[:, :, None, None]  # [B, S, 1, 1]
    key, value = jnp.where(used, key, 0), jnp.where(used, value, 0)
  query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
  # N = R * T rows of queries. No axis of size 1, for which XLA would copy.
  query = einops.rearrange(query, 'b t (g r) k -> b g (r t) k', g=groups)
  key, value = (einops.rearrange(x, 'b s g k -> b g s k') for x in (key, value))
  logits = _compare(query, key).astype(jnp.float32)  # [B, G, N, S]
  logits = cap_softly(logits, softcap)
  if bias is not None:
    logits += einops.rearrange(
      bias.astype(jnp.float32), 'b (g r) t s -> b g (r t) s', g=groups
    )
  if mask is not None:
    repeats = heads // groups if mask.shape[1] > 1 else 1
    allowed = einops.repeat(mask, 'b t s -> b 1 (r t) s', r=repeats)
    logits = jnp.where(allowed, logits, LOWEST)
  weights = _softmax(logits)
  mixed = _mix(weights.astype(value.dtype), value)  # [B, G, N, K]
  return (
    einops.rearrange(mixed, 'b g (r t) k -> b t (g r) k', t=length),
    einops.rearrange(weights, 'b g (r t) s -> b (g r) t s', t=length),
  )


@jax.custom_vjp
def _compare(query: Array, key: Array) -> Array:
  """Dot products [B, G, N, S] of queries [B, G, N, K] and keys [B, G, S, K].

  The gradients of both products are written down, for the sake of CPUs: for
  those that JAX derives, XLA copies the larger factor, transposed.
  """
  return jnp.einsum('bgnk,bgsk->bgns', query, key)


def _compare_backward(saved, grad):
  query, key = saved
  return _mix(grad, key), _sum_queries(query, grad)


@jax.custom_vjp
def _mix(weights: Array, value: Array) -> Array:
  """Sums [B, G, N, K] of values [B, G, S, K] by weights [B, G, N, S]."""
  return jnp.einsum('bgns,bgsk->bgnk', weights, value)


def _mix_backward(saved, grad):
  weights, value = saved
  return _compare(grad, value), _sum_queries(grad, weights)


_compare.defvjp(lambda *inputs: (_compare(*inputs), inputs), _compare_backward)
_mix.defvjp(lambda *inputs: (_mix(*inputs), inputs), _mix_backward)


def _sum_queries(vectors: Array, weights: Array) -> Array:
  """Sums [B, G, S, K] of vectors [B, G, N, K] by weights [B, G, N, S]."""
  summed = jnp.einsum('bgnk,bgns->bgks', vectors, weights)
  return jnp.swapaxes(summed, -1, -2)


@jax.custom_vjp
def _softmax(logits: Array) -> Array:
  """The softmax over the last axis; zeros where all logits are `LOWEST`."""
  highest = jnp.maximum(logits.max(axis=-1, keepdims=True), LOWEST / 2)
  weights = jnp.exp(logits - highest)
  total = weights.sum(axis=-1, keepdims=True)
  return weights * (1 / jnp.where(total > 0, total, 1.0))


def _softmax_backward(weights, grad):
  mean = jnp.sum(weights * grad, axis=-1, keepdims=True)
  return (weights * (grad - mean),)


_softmax.defvjp(lambda logits: (_softmax(logits),) * 2, _softmax_backward)


def cap_softly(
  logits: Float[Array, '...'], limit: float | None
) -> Float[Array, '...']:
  """Keeps logits within a limit by tanh (Bello et al. 2016); None for none."""
  return logits if limit is None else limit * jnp.tanh(logits / limit)


def check_heads(heads: int, groups: int) -> None:
  """Checks that every key-value head serves equally many query heads.

  Raises:
    ConfigError: if the number of key-value heads, `groups`, doesn't divide
      that of query heads, `heads`.
  """
  if heads % groups:
    raise ConfigError(
      f'{heads} query heads are not divisible by {groups} key-value heads; '
      f'use a num_kv_heads that divides num_heads'
    )


def allowed_keys(
  mask: Bool[Array, '#B #T S'] | None = None,
  *,
  earlier: Bool[Array, '1 T S'] | None = None,
  segments: tuple[Int[Array, '#B T'], Int[Array, '#B S']] | None = None,
  prefix_mask: tuple[Shaped[Array, '#B T'], Shaped[Array, '#B S']]
  | None = None,
  recent: Bool[Array, '#B T S'] | None = None,
) -> Bool[Array, '#B #T S'] | None:
  """Masks the keys that queries may attend to, by what is known of them.

  For three tokens in a row, with a prefix 1 1 ., for segments 1 1 2, and causal
  with a window of 2:

    causal  1 . .    with prefix  1 1 .    segments  1 1 .    window  1 . .
            1 1 .                 1 1 .              1 1 .            1 1 .
            1 1 1                 1 1 1              . . 1            . 1 1

  Args:
    mask: [B, T, S], True where a query may attend to a key; None means all.
    earlier: [1, T, S], causal: True where a key is not behind a query; None for
      attention in both directions.
    segments: segments of queries and keys, from 1 on: a query attends only to
      keys of its own segment; 0 is padding. None for one segment.
    prefix_mask: True for the queries and keys that attend to each other also in
      the other direction, with `earlier`; or integers, those of one number from
      1 on attending to each other. None for none.
    recent: [B, T, S], True where a key is not too far before a query, as
      `recent_keys` says; None for no such limit.

  Returns:
    The mask [B, T, S], where B and T may be 1; None means everything.
  """
  if earlier is not None:
    if prefix_mask is not None:
      earlier = earlier | same_blocks(*prefix_mask)
    mask = earlier if mask is None else mask & earlier
  if segments is not None:
    queries, keys = segments
    same = (queries[:, :, None] == keys[:, None]) & (keys > 0)[:, None]
    mask = same if mask is None else mask & same
  if recent is not None:
    mask = recent if mask is None else mask & recent
  return mask


def same_blocks(
  queries: Shaped[Array, '#B T'], keys: Shaped[Array, '#B S']
) -> Bool[Array, '#B T S']:
  """Which queries and keys have one number from 1 on, or are both True."""
  same = queries[:, :, None] == keys[:, None]
  return same & (queries > 0)[:, :, None]


def recent_keys(
  queries: Int[Array, '#B T'],
  keys: Int[Array, '#B S'],
  window: Int[Array, ''] | int,
) -> Bool[Array, '#B T S']:
  """Masks the keys that a sliding window leaves (Beltagy et al. 2020).

  Args:
    queries: positions of the queries [B, T].
    keys: positions of the keys [B, S].
    window: number of keys up to its own position that a query may attend to.
  """
  return keys[:, None] > queries[:, :, None] - window


def causal_mask(length: int) -> Bool[Array, '1 T T']:
  """The mask [1, T, T] that lets position t attend to positions 0..t."""
  return jnp.tril(jnp.ones((1, length, length), bool))
