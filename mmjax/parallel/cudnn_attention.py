"""Attention by cuDNN's kernels for NVIDIA GPUs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmjax import ops
from mmjax.ops import attention
from mmjax.parallel import kept, tiled_attention


def cudnn_attention(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  value: Float[Array, 'B S G K'],
  mask: Bool[Array, '#B #T S'] | None = None,
  *,
  causal: bool = False,
  segments: Int[Array, '#B S'] | None = None,
  prefix_mask: Shaped[Array, '#B S'] | None = None,
  window: Int[Array, ''] | int | None = None,
  scale: float | None = None,
) -> Float[Array, 'B T H K']:
  """Computes `ops.dot_product_attention` without its logits in memory.

  Causal attention to all keys has no mask at all; anything else becomes one,
  [B, 1, T, S] in the dtype of the queries, which all heads share.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K], where G divides H.
    value: values [B, S, G, K].
    mask: [B, T, S], True where a query may attend to a key; None means all. A
      query without any key gets zeros, whatever keys and values contain.
    causal: whether query t may attend only to keys 0..t, where T = S.
    segments: segments, where T = S, as in `ops.allowed_keys`.
    prefix_mask: the prefix, where T = S, as in `ops.allowed_keys`.
    window: window of `ops.recent_keys`, where T = S; None for all keys.
    scale: factor of the dot products; None for K**-0.5.

  Returns:
    The mixed values [B, T, H, K], equal to the plain ones up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  attention.check_heads(query.shape[2], key.shape[2])
  length, keys = query.shape[1], key.shape[1]
  if all(x is None for x in (mask, segments, prefix_mask, window)):
    lengths = jnp.full(len(query), keys, jnp.int32) if keys % 2 else None
    return _attend(
      *(query, key, value, scale),
      is_causal=causal,
      key_value_seq_lengths=lengths,
    )
  pair = lambda x: None if x is None else (x, x)
  allowed = ops.allowed_keys(
    mask,
    earlier=ops.causal_mask(length) if causal else None,
    segments=pair(segments),
    prefix_mask=pair(prefix_mask),
    recent=_find_recent(length, window),
  )  # [B, T, S]
  # Keys and values that no query uses may contain anything, NaN included.
  used = allowed.any(axis=1)[:, :, None, None]
  key, value = jnp.where(used, key, 0), jnp.where(used, value, 0)
  whole = jnp.broadcast_to(allowed, (len(query), length, keys))
  whole = _make_even(_make_even(whole), 2)
  mixed = _attend(query, key, value, scale, mask=whole[:, None])
  # The kernel averages all values for queries without any key.
  return jnp.where(allowed.any(axis=-1)[:, :, None, None], mixed, 0)


def _find_recent(length: int, window: Array | int | None) -> Array | None:
  if window is None:
    return None
  places = jnp.arange(length)[None]
  return ops.recent_keys(places, places, window)


def _attend(
  query: Array, key: Array, value: Array, scale: float | None, **settings: Any
) -> Array:
  mixed = jax.nn.dot_product_attention(
    *map(_make_even, (query, key, value)),
    scale=scale,
    implementation='cudnn',
    **settings,
  )
  return kept.name(mixed[:, : query.shape[1]], kept.ATTENTION)


def _make_even(x: Array, axis: int = 1) -> Array:
  """Pads an axis: there are gradients for even numbers of tokens alone."""
  return tiled_attention.pad_axis(x, axis, 2)


@functools.cache
def supports(
  query: jax.ShapeDtypeStruct, key: jax.ShapeDtypeStruct, with_mask: bool
) -> bool:
  """Whether cuDNN is there and has a kernel for such queries and keys.

  Args:
    query: [B, T, H, K].
    key: [B, S, G, K].
    with_mask: whether there is more than `causal`.
  """
  if jnp.dtype(query.dtype).itemsize != 2:
    return False
  mask = jax.ShapeDtypeStruct((1, query.shape[1], key.shape[1]), bool)
  loss = lambda *inputs: jnp.sum(cudnn_attention(*inputs))
  masks = [mask] if with_mask else []
  try:
    jax.eval_shape(jax.grad(loss), query, key, key, *masks)
  except (NotImplementedError, RuntimeError):  # No such kernel, or no cuDNN.
    return False
  return True
