"""Attention over sequences that are split between devices."""

import functools
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.ops import attention
from mmjax.parallel import collectives

AXIS = 'sequence'
# Number of keys whose logits a device holds at once.
TILE = 512
_LOWEST = jnp.finfo(jnp.float32).min


def is_on() -> bool:
  """Whether the mesh in the context splits sequences between devices."""
  return bool(collectives.automatic_axes([AXIS]))


def ring_attention(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  value: Float[Array, 'B S G K'],
  mask: Bool[Array, '#B #T S'] | None = None,
  *,
  causal: bool = False,
) -> Float[Array, 'B T H K']:
  """Computes `ops.dot_product_attention` with tokens split between devices.

  Each device keeps its part of the queries; keys and values are passed around
  the devices (ring attention, Liu et al. 2023, algorithm 1). The softmax is
  accumulated tile by tile, and the backward pass recomputes the weights (Dao et
  al. 2022), so a device holds at most `TILE` weights per query. Memory grows
  with the tokens per device, except for a `mask` that differs between queries.

  To be called with global arrays under a mesh (`jax.set_mesh`) with an axis
  `sequence`. T and S may be any numbers: sequences are padded with masked keys
  to a multiple of the axis. Examples and heads stay split over their axes of
  the mesh, where those divide them.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K], where G divides H.
    value: values [B, S, G, K].
    mask: [B, T, S], True where a query may attend to a key; None means all. A
      query without any key gets zeros, whatever keys and values contain.
    causal: whether query t may attend only to keys 0..t. Unlike a causal mask,
      it takes no memory.

  Returns:
    The mixed values [B, T, H, K], equal to those without a ring up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  attention.check_heads(query.shape[2], key.shape[2])
  length, shards = query.shape[1], collectives.num_shards([AXIS])
  tiles = -(-key.shape[1] // (shards * TILE))
  tile = -(-key.shape[1] // (shards * tiles))
  if mask is None:
    mask = jnp.ones((1, 1, key.shape[1]), bool)
  if mask.shape[1] > 1:
    mask = _pad(mask, 1, shards)
  mask = _pad(mask, 2, shards * tile)
  query = _pad(query, 1, shards)
  key, value = (_pad(x, 1, shards * tile) for x in (key, value))
  tokens, mask_spec = _partition_specs(key, mask, len(query))
  mixed = collectives.on_each_device(
    functools.partial(_attend, causal, tile),
    in_specs=(tokens, tokens, tokens, mask_spec),
    out_specs=tokens,
  )(query, key, value, mask)
  return mixed[:, :length]


def _partition_specs(
  key: Array, mask: Array, batch_size: int
) -> tuple[jax.P, jax.P]:
  """Axes that split queries, keys and values, and those that split the mask."""
  batch = _axes_if_divisible(collectives.batch_axes(), batch_size)
  tensor = _axes_if_divisible(
    collectives.automatic_axes(['tensor']), key.shape[2]
  )
  mask_spec = jax.P(
    batch if mask.shape[0] > 1 else None, AXIS if mask.shape[1] > 1 else None
  )
  return jax.P(batch, AXIS, tensor), mask_spec


def _pad(x: Array, axis: int, multiple: int) -> Array:
  """Pads an axis with zeros to a multiple."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, -x.shape[axis] % multiple)
  return jnp.pad(x, widths)


def _axes_if_divisible(
  axes: tuple[str, ...], length: int
) -> tuple[str, ...] | None:
  """The mesh axes if their size divides the length; else None, replicated."""
  return axes if axes and length % collectives.num_shards(axes) == 0 else None


class _Keys(NamedTuple):
  """Keys and values that are passed around.

  Attributes:
    key: keys [B, S, G, K].
    value: values [B, S, G, K].
    first: index of the first key in the whole sequence, [].
  """

  key: Array
  value: Array
  first: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(causal, tile, query, key, value, mask):
  """Ring attention of one device's queries and keys; the mask has all keys."""
  return _forward(causal, tile, query, key, value, mask)[0]


def _forward(causal, tile, query, key, value, mask):
  scaled = _group_heads(query, key) * query.shape[-1] ** -0.5

  def add_tile(state, keys):
    highest, total, mixed = state
    keys, allowed = _mask_keys(keys, mask, causal, query.shape[1])
    logits = _dot('bgrtk,bsgk->bgrts', scaled, keys.key)
    logits = jnp.where(allowed, logits, _LOWEST)
    new = jnp.maximum(highest, logits.max(axis=-1))
    weights = jnp.where(allowed, jnp.exp(logits - new[..., None]), 0.0)
    decay = jnp.exp(highest - new)
    total = decay * total + weights.sum(axis=-1)
    more = _dot('bgrts,bsgk->bgrtk', weights.astype(value.dtype), keys.value)
    return (new, total, decay[..., None] * mixed + more), None

  def visit(state, keys):
    return jax.lax.scan(add_tile, state, _split_tiles(keys, tile))[0], keys

  zero = jnp.zeros(scaled.shape, jnp.float32)
  state = zero[..., 0] + _LOWEST, zero[..., 0], zero
  state, _ = collectives.scan_ring(visit, state, _local_keys(key, value), AXIS)
  highest, total, mixed = state
  total = jnp.where(total > 0, total, 1.0)  # For queries without any key.
  mixed = mixed / total[..., None]
  saved = query, key, value, mask, mixed, highest + jnp.log(total)
  return _ungroup_heads(mixed).astype(query.dtype), saved


def _backward(causal, tile, saved, grad):
  query, key, value, mask, mixed, log_total = saved
  scale = query.shape[-1] ** -0.5
  scaled = _group_heads(query, key) * scale
  grad = _group_heads(grad, key)
  # The softmax's gradient subtracts the weighted mean of the gradients.
  mean = jnp.sum(grad.astype(jnp.float32) * mixed, axis=-1)

  def add_tile(query_grad, keys):
    keys, allowed = _mask_keys(keys, mask, causal, query.shape[1])
    logits = _dot('bgrtk,bsgk->bgrts', scaled, keys.key)
    weights = jnp.where(allowed, jnp.exp(logits - log_total[..., None]), 0.0)
    logit_grad = _dot('bgrtk,bsgk->bgrts', grad, keys.value) - mean[..., None]
    logit_grad = (weights * logit_grad).astype(query.dtype)
    weights = weights.astype(query.dtype)
    return query_grad + _dot('bgrts,bsgk->bgrtk', logit_grad, keys.key), (
      _dot('bgrts,bgrtk->bsgk', logit_grad, scaled),
      _dot('bgrts,bgrtk->bsgk', weights, grad),
    )

  def visit(query_grad, moving):
    keys, grads = moving
    tiles = _split_tiles(keys, tile)
    query_grad, more = jax.lax.scan(add_tile, query_grad, tiles)
    more = jax.tree.map(_join_tiles, more)
    return query_grad, (keys, jax.tree.map(jnp.add, grads, more))

  zeros = lambda x: jnp.zeros(x.shape, jnp.float32)
  moving = _local_keys(key, value), (zeros(key), zeros(value))
  query_grad, (_, grads) = collectives.scan_ring(
    visit, zeros(scaled), moving, AXIS
  )
  query_grad = _ungroup_heads(scale * query_grad).astype(query.dtype)
  return query_grad, *(each.astype(key.dtype) for each in grads), None


_attend.defvjp(_forward, _backward)

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _local_keys(key, value):
  first = jax.lax.axis_index(AXIS) * key.shape[1]
  # The barrier makes the mask depend on the keys. Otherwise `nn.scan` notices
  # that it is the same in all layers, computes it before them for all tiles,
  # and keeps it: T * T of bool.
  return _Keys(*jax.lax.optimization_barrier((key, value, first)))


def _mask_keys(keys, mask, causal, length):
  """Zeros keys that no query of this device may attend to; returns the mask.

  The mask is [B, 1, 1, T, S], where B and T may be 1.
  """
  size = keys.key.shape[1]
  allowed = jax.lax.dynamic_slice_in_dim(mask, keys.first, size, axis=2)
  if causal:
    rows = jax.lax.axis_index(AXIS) * length + jnp.arange(length)
    columns = keys.first + jnp.arange(size)
    allowed = allowed & (columns[None] <= rows[:, None])[None]
  # Keys and values that no query uses may contain anything, NaN included.
  used = allowed.any(axis=1)[:, :, None, None]
  cleared = (jnp.where(used, x, 0) for x in keys[:2])
  return _Keys(*cleared, keys.first), allowed[:, None, None]


def _split_tiles(keys, tile):
  """Splits keys and values into tiles [number, B, tile, G, K]."""
  cut = lambda x: einops.rearrange(x, 'b (n s) g k -> n b s g k', s=tile)
  key, value = cut(keys.key), cut(keys.value)
  return _Keys(key, value, keys.first + tile * jnp.arange(len(key)))


def _join_tiles(tiles):
  return einops.rearrange(tiles, 'n b s g k -> b (n s) g k')


def _group_heads(x, key):
  return einops.rearrange(x, 'b t (g r) k -> b g r t k', g=key.shape[2])


def _ungroup_heads(x):
  return einops.rearrange(x, 'b g r t k -> b t (g r) k')
