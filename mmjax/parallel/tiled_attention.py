"""Attention whose memory grows with the length, not with its square."""

import functools
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmjax.ops import attention
from mmjax.parallel import collectives, kept
from mmjax.parallel import mesh as mesh_lib

# Most keys of which a device holds the logits at once, and those of a CPU,
# whose caches are small, and which leaves out more of later keys.
TILE = 512
CPU_TILE = 256
# Most parts of the queries of causal attention, each with the keys up to its
# end: of n parts, (n - 1) / 2n of the work is left out.
PARTS = 4


def tiled_attention(
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
  softcap: float | None = None,
) -> Float[Array, 'B T H K']:
  """Computes `ops.dot_product_attention` tile by tile of the keys.

  The softmax is accumulated (Milakov and Gimelshein 2018, algorithm 3), and the
  backward pass recomputes the weights (Dao et al. 2022), so that at most `TILE`
  weights per query exist at once.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K], where G divides H.
    value: values [B, S, G, K].
    mask: [B, T, S], True where a query may attend to a key; None means all. A
      query without any key gets zeros, whatever keys and values contain. One
      that is the same for all queries, [B, 1, S], takes little memory.
    causal: whether query t may attend only to keys 0..t, where T = S. Unlike a
      causal mask, it takes no memory; nor do the next three.
    segments, prefix_mask: where T = S, as in `ops.allowed_keys`.
    window: where T = S, as in `ops.recent_keys`; None for all keys.
    scale: factor of the dot products; None for K**-0.5.
    softcap: softcap, as in `ops.dot_product_attention`.

  Returns:
    The mixed values [B, T, H, K], equal to the plain ones up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  attention.check_heads(query.shape[2], key.shape[2])
  tile = choose_tile(key.shape[1])
  if key.shape[1] % tile and mask is None:
    mask = jnp.ones((1, 1, key.shape[1]), bool)
  pad = lambda x, axis: x if x is None else pad_axis(x, axis, tile)
  of_queries = segments, prefix_mask
  structure = Structure(
    pad(mask, 2),
    *of_queries,
    *(pad(x, 1) for x in of_queries),
    make_window(window),
  )
  settings = Settings(causal, tile, choose_scale(query, scale), softcap=softcap)
  key, value = pad(key, 1), pad(value, 1)
  only_earlier = causal and prefix_mask is None
  parts = min(PARTS, key.shape[1] // tile) if only_earlier else 1
  mixed = [
    _attend_part(settings, query, key, value, structure, part, parts)
    for part in range(parts)
  ]
  return jnp.concatenate(mixed, axis=1)


def _attend_part(
  settings: 'Settings',
  query: Array,
  key: Array,
  value: Array,
  structure: 'Structure',
  part: int,
  parts: int,
) -> Array:
  """One of equal parts of the queries, to the keys that it may attend to."""
  if parts == 1:
    return attend(settings, query, key, value, structure)
  tiles = key.shape[1] // settings.tile
  ends = [tiles * i // parts * settings.tile for i in (part, part + 1)]
  rows, columns = slice(*ends), slice(ends[1])
  cut = lambda x, of: None if x is None else x[:, of]
  mask = structure.mask
  if mask is not None:
    mask = mask[:, rows if mask.shape[1] > 1 else slice(None), columns]
  return attend(
    settings._replace(first_row=ends[0]),
    query[:, rows],
    key[:, columns],
    value[:, columns],
    Structure(
      mask,
      cut(structure.query_segments, rows),
      cut(structure.query_prefix, rows),
      cut(structure.key_segments, columns),
      cut(structure.key_prefix, columns),
      structure.window,
    ),
  )


def choose_tile(length: int, shards: int = 1) -> int:
  """Number of keys of a tile, for a length that is split between shards."""
  most = min(TILE, CPU_TILE) if mesh_lib.platform() == 'cpu' else TILE
  tiles = -(-length // (shards * most))
  return -(-length // (shards * tiles))


def pad_axis(x: Array, axis: int, multiple: int) -> Array:
  """Pads an axis with zeros to a multiple."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, -x.shape[axis] % multiple)
  return jnp.pad(x, widths)


def make_window(window: Array | int | None) -> Array | None:
  """A window as an array [], for `Structure`."""
  return None if window is None else jnp.asarray(window, jnp.int32)


def choose_scale(query: Array, scale: float | None) -> float:
  """The factor of the dot products: K**-0.5 if there is none."""
  return query.shape[-1] ** -0.5 if scale is None else scale


class Settings(NamedTuple):
  """What is fixed when attention is compiled.

  Attributes:
    causal: whether queries attend only to keys up to their own index.
    tile: number of keys of a tile.
    scale: factor of the dot products.
    axis: mesh axis around which keys are passed; None for one device.
    first_row: index of the first query, among those of this device.
    softcap: limit of the dot products; None for none.
  """

  causal: bool
  tile: int
  scale: float
  axis: str | None = None
  first_row: int = 0
  softcap: float | None = None


class Structure(NamedTuple):
  """Which keys one device's queries may attend to; None where all.

  Attributes:
    mask: [B, T, S] of all keys, of all devices; B and T may be 1.
    query_segments: [B, T].
    query_prefix: [B, T].
    key_segments: [B, S] of all keys.
    key_prefix: [B, S] of all keys.
    window: [], number of keys up to its own that a query may attend to.
  """

  mask: Array | None = None
  query_segments: Array | None = None
  query_prefix: Array | None = None
  key_segments: Array | None = None
  key_prefix: Array | None = None
  window: Array | None = None


class _Keys(NamedTuple):
  """Keys and values of a device or a tile.

  Attributes:
    key: keys [B, S, G, K].
    value: values [B, S, G, K].
    first: index of the first key in the whole sequence, [].
  """

  key: Array
  value: Array
  first: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
  settings: Settings,
  query: Array,
  key: Array,
  value: Array,
  structure: Structure,
) -> Array:
  """Attention of one device's queries [B, T, H, K] and keys [B, S, G, K].

  With an axis, keys and values go around the ring of its devices; S is a
  multiple of the tile.
  """
  return _forward(settings, query, key, value, structure)[0]


def _forward(settings, query, key, value, structure):
  scaled = _group_heads(query, key) * settings.scale

  def add_tile(state, keys):
    highest, total, mixed = state
    keys, allowed = _mask_keys(settings, keys, structure, query)
    logits = _dot('bgnk,bsgk->bgns', scaled, keys.key)
    logits = attention.cap_softly(logits, settings.softcap)
    logits = _where(allowed, logits, attention.LOWEST)
    new = jnp.maximum(highest, logits.max(axis=-1))
    weights = jnp.exp(logits - new[..., None])
    decay = jnp.exp(highest - new)
    total = decay * total + weights.sum(axis=-1)
    more = _dot('bgns,bsgk->bgnk', weights.astype(value.dtype), keys.value)
    return (new, total, decay[..., None] * mixed + more), None

  def visit(state, keys):
    tiles = _split_tiles(keys, settings.tile)
    return jax.lax.scan(add_tile, state, tiles)[0], keys

  zero = jnp.zeros(scaled.shape, jnp.float32)
  # Above `LOWEST`, so that the weights of masked keys are always zero.
  state = zero[..., 0] + attention.LOWEST / 2, zero[..., 0], zero
  moving = _local_keys(settings, key, value)
  state, _ = collectives.scan_ring(visit, state, moving, settings.axis)
  highest, total, mixed = state
  total = jnp.where(total > 0, total, 1.0)  # For queries without any key.
  mixed = kept.name(mixed / total[..., None], kept.ATTENTION)
  log_total = kept.name(highest + jnp.log(total), kept.ATTENTION)
  saved = query, key, value, structure, mixed, log_total
  return _ungroup_heads(mixed, query).astype(query.dtype), saved


def _backward(settings, saved, grad):
  query, key, value, structure, mixed, log_total = saved
  scaled = _group_heads(query, key) * settings.scale
  grad = _group_heads(grad, key)
  # The softmax's gradient subtracts the weighted mean of the gradients.
  mean = jnp.sum(grad.astype(jnp.float32) * mixed, axis=-1)

  def add_tile(query_grad, keys):
    keys, allowed = _mask_keys(settings, keys, structure, query)
    capped = _dot('bgnk,bsgk->bgns', scaled, keys.key)
    capped = attention.cap_softly(capped, settings.softcap)
    logits = _where(allowed, capped, attention.LOWEST)
    weights = jnp.exp(logits - log_total[..., None])
    logit_grad = _dot('bgnk,bsgk->bgns', grad, keys.value) - mean[..., None]
    logit_grad = weights * logit_grad
    if settings.softcap is not None:
      logit_grad *= 1 - (capped / settings.softcap) ** 2
    logit_grad = logit_grad.astype(query.dtype)
    weights = weights.astype(query.dtype)
    return query_grad + _dot('bgns,bsgk->bgnk', logit_grad, keys.key), (
      _dot('bgns,bgnk->bsgk', logit_grad, scaled),
      _dot('bgns,bgnk->bsgk', weights, grad),
    )

  def visit(query_grad, moving):
    keys, grads = moving
    tiles = _split_tiles(keys, settings.tile)
    query_grad, more = jax.lax.scan(add_tile, query_grad, tiles)
    more = jax.tree.map(_join_tiles, more)
    return query_grad, (keys, jax.tree.map(jnp.add, grads, more))

  zeros = lambda x: jnp.zeros(x.shape, jnp.float32)
  moving = _local_keys(settings, key, value), (zeros(key), zeros(value))
  query_grad, (_, grads) = collectives.scan_ring(
    visit, zeros(scaled), moving, settings.axis
  )
  query_grad = _ungroup_heads(settings.scale * query_grad, query)
  query_grad = query_grad.astype(query.dtype)
  return query_grad, *(each.astype(key.dtype) for each in grads), None


attend.defvjp(_forward, _backward)

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _where(allowed, values, other):
  return values if allowed is None else jnp.where(allowed, values, other)


def _local_keys(settings, key, value):
  first = jnp.zeros((), jnp.int32)
  if settings.axis is not None:
    first = jax.lax.axis_index(settings.axis) * key.shape[1]
  # The barrier makes the mask depend on the keys. Otherwise `nn.scan` notices
  # that it is the same in all layers, computes it before them for all tiles,
  # and keeps it: T * T of bool.
  return _Keys(*jax.lax.optimization_barrier((key, value, first)))


def _mask_keys(settings, keys, structure, query):
  """Zeros keys that no query of this device may attend to; returns the mask.

  The mask is [B, 1, N, S], where B and N may be 1; None means everything.
  """
  length, (size, groups) = query.shape[1], keys.key.shape[1:3]

  def cut(x):
    if x is None:
      return None
    return jax.lax.dynamic_slice_in_dim(x, keys.first, size, axis=x.ndim - 1)

  earlier = recent = None
  rows = settings.first_row + jnp.arange(length)
  if settings.axis is not None:
    rows += jax.lax.axis_index(settings.axis) * length
  columns = keys.first + jnp.arange(size)
  if settings.causal:
    earlier = (columns[None] <= rows[:, None])[None]  # [1, T, S]
  if structure.window is not None:
    recent = attention.recent_keys(rows[None], columns[None], structure.window)
  allowed = attention.allowed_keys(
    cut(structure.mask),
    earlier=earlier,
    segments=_pair(structure.query_segments, cut(structure.key_segments)),
    prefix_mask=_pair(structure.query_prefix, cut(structure.key_prefix)),
    recent=recent,
  )
  if allowed is None:
    return keys, None
  # Keys and values that no query uses may contain anything, NaN included.
  used = allowed.any(axis=1)[:, :, None, None]
  cleared = (jnp.where(used, x, 0) for x in keys[:2])
  repeats = query.shape[2] // groups if allowed.shape[1] > 1 else 1
  allowed = einops.repeat(allowed, 'b t s -> b 1 (r t) s', r=repeats)
  return _Keys(*cleared, keys.first), allowed


def _pair(of_queries, of_keys):
  return None if of_queries is None else (of_queries, of_keys)


def _split_tiles(keys, tile):
  """Splits keys and values into tiles [number, B, tile, G, K]."""
  cut = lambda x: einops.rearrange(x, 'b (n s) g k -> n b s g k', s=tile)
  key, value = cut(keys.key), cut(keys.value)
  return _Keys(key, value, keys.first + tile * jnp.arange(len(key)))


def _join_tiles(tiles):
  return einops.rearrange(tiles, 'n b s g k -> b (n s) g k')


def _group_heads(x, key):
  """The queries of G key-value heads, [B, G, N, K]: N = R * T rows."""
  return einops.rearrange(x, 'b t (g r) k -> b g (r t) k', g=key.shape[2])


def _ungroup_heads(x, query):
  return einops.rearrange(x, 'b g (r t) k -> b t (g r) k', t=query.shape[1])
