"""Attention over sequences that are split between devices."""

import functools
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError
from mmjax.parallel import collectives

AXIS = 'sequence'
# Keys whose logits a device holds at once; more of them are taken in turns.
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
  """Mixes values as `ops.dot_product_attention` does, tokens being split.

  Each device keeps its part of the queries; keys and values go around, one
  neighbour's at a time (ring attention, Liu et al. 2023, algorithm 1). The
  softmax is summed up block by block, and the backward pass computes the
  weights again (Dao et al. 2022), so no device ever holds more of them than
  `TILE` for each of its queries. Memory grows with the tokens a device, except
  for that of a `mask` that differs between queries.

  To be called with global arrays under a mesh (`jax.set_mesh`) with an axis
  `sequence`. T and S may be any numbers: sequences are filled up with keys that
  nobody sees to what the axis divides. Examples and heads stay split over
  their axes of the mesh, where those divide them.

  Args:
    query: [B, T, H, K].
    key: [B, S, G, K], where G divides H.
    value: [B, S, G, K].
    mask: [B, T, S], True where a query may look at a key; None means all. A
      query that may look nowhere gets zeros, whatever keys and values hold.
    causal: whether query t may look at keys 0..t alone. Better than a mask
      that says so, as it takes no memory.

  Returns:
    The mixed values [B, T, H, K], those of the whole softmax up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  heads, groups = query.shape[2], key.shape[2]
  if heads % groups:
    raise ConfigError(
      f'{heads} query heads are not divisible by {groups} key-value heads; '
      f'use a num_kv_heads that divides num_heads'
    )
  length, ways = query.shape[1], collectives.ways([AXIS])
  turns = -(-key.shape[1] // (ways * TILE))
  tile = -(-key.shape[1] // (ways * turns))
  if mask is None:
    mask = jnp.ones((1, 1, key.shape[1]), bool)
  if mask.shape[1] > 1:
    mask = _filled(mask, 1, ways)
  mask = _filled(mask, 2, ways * tile)
  query = _filled(query, 1, ways)
  key, value = (_filled(x, 1, ways * tile) for x in (key, value))

  batch = _fitting(collectives.batch_axes(), query.shape[0])
  tensor = _fitting(collectives.automatic_axes(['tensor']), groups)
  tokens = jax.P(batch, AXIS, tensor)
  seen = jax.P(
    batch if mask.shape[0] > 1 else None, AXIS if mask.shape[1] > 1 else None
  )
  mixed = collectives.on_each_device(
    functools.partial(_attend, causal, tile),
    in_specs=(tokens, tokens, tokens, seen),
    out_specs=tokens,
  )(query, key, value, mask)
  return mixed[:, :length]


def _filled(x: Array, axis: int, multiple: int) -> Array:
  """Fills an axis up with zeros to a multiple."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, -x.shape[axis] % multiple)
  return jnp.pad(x, widths)


def _fitting(axes: tuple[str, ...], length: int) -> tuple[str, ...] | None:
  """The axes if they divide the length; else each of their devices has all."""
  return axes if axes and length % collectives.ways(axes) == 0 else None


class _Keys(NamedTuple):
  """Keys and values that visit a device.

  Attributes:
    key: [B, S, G, K].
    value: [B, S, G, K].
    first: [], where in the whole sequence they start.
  """

  key: Array
  value: Array
  first: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(causal, tile, query, key, value, mask):
  """`ring_attention` of one device's queries and keys, mask over all keys."""
  return _forward(causal, tile, query, key, value, mask)[0]


def _forward(causal, tile, query, key, value, mask):
  scaled = _grouped(query, key) * query.shape[-1] ** -0.5

  def look(state, some):
    highest, total, mixed = state
    some, allowed = _visible(some, mask, causal, query.shape[1])
    logits = _dot('bgrtk,bsgk->bgrts', scaled, some.key)
    logits = jnp.where(allowed, logits, _LOWEST)
    new = jnp.maximum(highest, logits.max(axis=-1))
    weights = jnp.where(allowed, jnp.exp(logits - new[..., None]), 0.0)
    less = jnp.exp(highest - new)
    total = less * total + weights.sum(axis=-1)
    more = _dot('bgrts,bsgk->bgrtk', weights.astype(value.dtype), some.value)
    return (new, total, less[..., None] * mixed + more), None

  def visit(state, keys):
    return jax.lax.scan(look, state, _tiles(keys, tile))[0], keys

  zero = jnp.zeros(scaled.shape, jnp.float32)
  state = zero[..., 0] + _LOWEST, zero[..., 0], zero
  state, _ = collectives.around(visit, state, _own(key, value), AXIS)
  highest, total, mixed = state
  total = jnp.where(total > 0, total, 1.0)  # Of a query that may look nowhere.
  mixed = mixed / total[..., None]
  saved = query, key, value, mask, mixed, highest + jnp.log(total)
  return _ungrouped(mixed).astype(query.dtype), saved


def _backward(causal, tile, saved, wanted):
  query, key, value, mask, mixed, whole = saved
  scale = query.shape[-1] ** -0.5
  scaled = _grouped(query, key) * scale
  wanted = _grouped(wanted, key)
  # What a weight's gradient is compared with: the mean over the softmax.
  mean = jnp.sum(wanted.astype(jnp.float32) * mixed, axis=-1)

  def look(slope_query, some):
    some, allowed = _visible(some, mask, causal, query.shape[1])
    logits = _dot('bgrtk,bsgk->bgrts', scaled, some.key)
    weights = jnp.where(allowed, jnp.exp(logits - whole[..., None]), 0.0)
    slope = _dot('bgrtk,bsgk->bgrts', wanted, some.value) - mean[..., None]
    slope = (weights * slope).astype(query.dtype)
    weights = weights.astype(query.dtype)
    return slope_query + _dot('bgrts,bsgk->bgrtk', slope, some.key), (
      _dot('bgrts,bgrtk->bsgk', slope, scaled),
      _dot('bgrts,bgrtk->bsgk', weights, wanted),
    )

  def visit(slope_query, moving):
    keys, slopes = moving
    slope_query, more = jax.lax.scan(look, slope_query, _tiles(keys, tile))
    more = jax.tree.map(_joined, more)
    return slope_query, (keys, jax.tree.map(jnp.add, slopes, more))

  zeros = lambda x: jnp.zeros(x.shape, jnp.float32)
  moving = _own(key, value), (zeros(key), zeros(value))
  slope_query, (_, slopes) = collectives.around(
    visit, zeros(scaled), moving, AXIS
  )
  slope_query = _ungrouped(scale * slope_query).astype(query.dtype)
  return slope_query, *(slope.astype(key.dtype) for slope in slopes), None


_attend.defvjp(_forward, _backward)

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _own(key, value):
  first = jax.lax.axis_index(AXIS) * key.shape[1]
  # Tied together, so that who may see whom counts as computed from the keys.
  # `nn.scan` would else see that it is the same in all layers, compute it
  # before them, for all blocks, and keep it: T * T of bool.
  return _Keys(*jax.lax.optimization_barrier((key, value, first)))


def _visible(some, mask, causal, length):
  """Keys that a query of this device sees, the rest zeros; and who sees which.

  The second is [B, 1, 1, T, S], each of B and T possibly 1.
  """
  size = some.key.shape[1]
  allowed = jax.lax.dynamic_slice_in_dim(mask, some.first, size, axis=2)
  if causal:
    rows = jax.lax.axis_index(AXIS) * length + jnp.arange(length)
    columns = some.first + jnp.arange(size)
    allowed = allowed & (columns[None] <= rows[:, None])[None]
  # What no query sees may hold anything, NaN included.
  seen = allowed.any(axis=1)[:, :, None, None]
  cleared = (jnp.where(seen, x, 0) for x in some[:2])
  return _Keys(*cleared, some.first), allowed[:, None, None]


def _tiles(keys, tile):
  """Keys and values [number, B, tile, G, K], and where each tile starts."""
  cut = lambda x: einops.rearrange(x, 'b (n s) g k -> n b s g k', s=tile)
  key, value = cut(keys.key), cut(keys.value)
  return _Keys(key, value, keys.first + tile * jnp.arange(len(key)))


def _joined(tiles):
  return einops.rearrange(tiles, 'n b s g k -> b (n s) g k')


def _grouped(x, key):
  return einops.rearrange(x, 'b t (g r) k -> b g r t k', g=key.shape[2])


def _ungrouped(x):
  return einops.rearrange(x, 'b g r t k -> b t (g r) k')
