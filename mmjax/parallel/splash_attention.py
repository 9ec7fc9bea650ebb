"""Attention by the Pallas kernels for TPUs that come with JAX."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.ops import attention
from mmjax.parallel import collectives, kept, tiled_attention
from mmjax.parallel import mesh as mesh_lib

# Blocks have a multiple of the vector registers' lanes.
LANES = 128
# Most queries, and most keys, of a block: their logits stay in fast memory.
BLOCK = 512


def splash_attention(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  value: Float[Array, 'B S G K'],
  mask: Bool[Array, '#B 1 S'] | None = None,
  *,
  causal: bool = False,
  segments: Int[Array, '#B S'] | None = None,
  scale: float | None = None,
  interpret: bool = False,
) -> Float[Array, 'B T H K']:
  """Computes `ops.dot_product_attention` block by block on a TPU.

  The logits never leave the core's own memory, forward and backward (Dao et al.
  2022), and blocks of later keys are left out where attention is causal. The
  kernels run on each device of the mesh in the context (`jax.set_mesh`) by
  themselves, with its examples and heads. Sequences are padded to whole blocks.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K], where G divides H.
    value: values [B, S, G, K].
    mask: [B, 1, S], True where queries may attend to a key; None means all. An
      example without any key gets zeros, whatever keys and values contain.
    causal: whether query t may attend only to keys 0..t, where T = S.
    segments: segments of queries and keys, where T = S, as in
      `ops.allowed_keys`.
    scale: factor of the dot products; None for K**-0.5.
    interpret: whether to run the kernels' steps on any device, slowly.

  Returns:
    The mixed values [B, T, H, K], equal to the plain ones up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  attention.check_heads(query.shape[2], key.shape[2])
  (batch, length), keys = query.shape[:2], key.shape[1]
  blocks = _choose_block(length), _choose_block(keys)
  ids = _identify(mask, segments, (batch, length, keys))
  if ids is not None:
    # Keys and values that no query uses may contain anything, NaN included.
    used = (ids.key > 0)[:, :, None, None]
    key, value = jnp.where(used, key, 0), jnp.where(used, value, 0)
  query = query * tiled_attention.choose_scale(query, scale)
  pad = tiled_attention.pad_axis
  mixed = _on_each_device(
    functools.partial(_attend, causal, blocks, interpret),
    pad(query, 1, blocks[0]),
    pad(key, 1, blocks[1]),
    pad(value, 1, blocks[1]),
    _pad_ids(ids, (batch, length, keys), blocks),
  )[:, :length]
  if ids is None:
    return mixed
  # The kernels average all values for queries without any key.
  return jnp.where(_has_key(ids, causal)[:, :, None, None], mixed, 0)


class _Ids(NamedTuple):
  """A query attends to the keys that have its number.

  Attributes:
    query: [B, T], from 1 on; -1 for padding.
    key: [B, S], from 1 on; 0 for padding and masked keys.
  """

  query: Array
  key: Array


def _identify(
  mask: Array | None, segments: Array | None, shape: tuple[int, int, int]
) -> _Ids | None:
  """Numbers queries and keys; None if all attend to all."""
  if mask is None and segments is None:
    return None
  batch, length, keys = shape
  if segments is None:
    queries, of_keys = jnp.ones((1, length), int), jnp.ones((1, keys), int)
  else:
    queries, of_keys = jnp.where(segments > 0, segments, -1), segments
  if mask is not None:
    of_keys = jnp.where(mask[:, 0], of_keys, 0)
  spread = lambda x, n: jnp.broadcast_to(x, (batch, n)).astype(jnp.int32)
  return _Ids(spread(queries, length), spread(of_keys, keys))


def _pad_ids(
  ids: _Ids | None, shape: tuple[int, int, int], blocks: tuple[int, int]
) -> _Ids | None:
  """Ids of padded queries and keys; None if there are no padded keys either."""
  batch, length, keys = shape
  if ids is None and keys % blocks[1] == 0:
    return None
  if ids is None:
    ones = lambda n: jnp.ones((batch, n), jnp.int32)
    ids = _Ids(ones(length), ones(keys))
  pad = tiled_attention.pad_axis
  return _Ids(pad(ids.query, 1, blocks[0]), pad(ids.key, 1, blocks[1]))


def _has_key(ids: _Ids, causal: bool) -> Array:
  """Whether a query has any key, [B, T]; XLA fuses it into one sum."""
  allowed = ids.query[:, :, None] == ids.key[:, None]
  if causal:
    allowed &= attention.causal_mask(ids.query.shape[1])
  return allowed.any(axis=-1)


def _choose_block(length: int) -> int:
  """The size of equal blocks, as large as `BLOCK` allows."""
  number = -(-length // BLOCK)
  return -(-length // (number * LANES)) * LANES


def _attend(
  causal: bool,
  blocks: tuple[int, int],
  interpret: bool,
  query: Array,
  key: Array,
  value: Array,
  ids: _Ids | None,
) -> Array:
  """Attention of one device's queries [B, T, H, K], in whole blocks."""
  # Imported late: Pallas is large, and commands on other devices don't need it.
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  sizes = query.shape[1], key.shape[1]
  mask = splash.CausalMask(sizes) if causal else splash.FullMask(sizes)
  of_queries, of_keys = blocks
  kernel = splash.make_splash_mha(
    splash.MultiHeadMask([mask] * query.shape[2]),
    block_sizes=splash.BlockSizes(
      block_q=of_queries,
      block_kv=of_keys,
      block_q_dkv=of_queries,
      block_kv_dkv=of_keys,
      block_q_dq=of_queries,
      block_kv_dq=of_keys,
    ),
    head_shards=1,
    q_seq_shards=1,
    residual_checkpoint_name=kept.ATTENTION,
    interpret=interpret,
  )
  to_heads = lambda x: jnp.swapaxes(x, 1, 2)  # [B, H, T, K]
  segments = None if ids is None else splash.SegmentIds(*ids)
  mixed = jax.vmap(kernel)(*map(to_heads, (query, key, value)), segments)
  return to_heads(mixed)


def _on_each_device(
  one_device: Callable[..., Array],
  query: Array,
  key: Array,
  value: Array,
  ids: _Ids | None,
) -> Array:
  """Runs it on the examples and heads of each device of the mesh, if any."""
  batch = collectives.dividing_axes(mesh_lib.BATCH_AXES, len(query)) or None
  tensor = collectives.dividing_axes(['tensor'], key.shape[2]) or None
  if not collectives.automatic_axes(mesh_lib.AXES):
    return one_device(query, key, value, ids)
  tokens = jax.P(batch, None, tensor)
  return collectives.on_each_device(
    one_device,
    in_specs=(tokens, tokens, tokens, jax.P(batch)),
    out_specs=tokens,
  )(query, key, value, ids)
