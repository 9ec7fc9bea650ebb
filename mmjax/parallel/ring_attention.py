"""Attention over sequences that are split between devices."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mmjax.ops import attention
from mmjax.parallel import collectives, tiled_attention
from mmjax.parallel import mesh as mesh_lib

AXIS = 'sequence'


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
  segments: Int[Array, '#B S'] | None = None,
  prefix_mask: Shaped[Array, '#B S'] | None = None,
  window: Int[Array, ''] | int | None = None,
  scale: float | None = None,
  softcap: float | None = None,
) -> Float[Array, 'B T H K']:
  """Computes `ops.dot_product_attention` with tokens split between devices.

  Each device keeps its part of the queries; keys and values are passed around
  the devices (ring attention, Liu et al. 2023, algorithm 1), which attend to
  them as `tiled_attention` does. Memory grows with the tokens per device,
  except for a `mask` that differs between queries.

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
    causal, segments, prefix_mask, window, scale, softcap: `tiled_attention`'s.

  Returns:
    The mixed values [B, T, H, K], equal to those without a ring up to rounding.

  Raises:
    ConfigError: if G doesn't divide H.
  """
  attention.check_heads(query.shape[2], key.shape[2])
  length, shards = query.shape[1], collectives.num_shards([AXIS])
  tile = tiled_attention.choose_tile(key.shape[1], shards)
  scale = tiled_attention.choose_scale(query, scale)
  pad = tiled_attention.pad_axis
  mask = jnp.ones((1, 1, key.shape[1]), bool) if mask is None else mask
  of_tokens = segments, prefix_mask
  structure = _pad_structure(mask, of_tokens, shards, shards * tile)
  structure = structure._replace(window=tiled_attention.make_window(window))
  query = pad(query, 1, shards)
  key, value = (pad(x, 1, shards * tile) for x in (key, value))
  tokens, of_structure = _partition_specs(key, structure, len(query))
  settings = tiled_attention.Settings(
    causal, tile, scale, AXIS, softcap=softcap
  )
  mixed = collectives.on_each_device(
    functools.partial(tiled_attention.attend, settings),
    in_specs=(tokens, tokens, tokens, of_structure),
    out_specs=tokens,
  )(query, key, value, structure)
  return mixed[:, :length]


def _pad_structure(
  mask: Array,
  of_tokens: tuple[Array | None, ...],
  of_queries: int,
  of_keys: int,
) -> tiled_attention.Structure:
  """Pads queries and keys to multiples, those of the mask with masked ones.

  `of_tokens` are segments and prefix.
  """
  pad = tiled_attention.pad_axis
  if mask.shape[1] > 1:
    mask = pad(mask, 1, of_queries)
  return tiled_attention.Structure(
    pad(mask, 2, of_keys),
    *(x if x is None else pad(x, 1, of_queries) for x in of_tokens),
    *(x if x is None else pad(x, 1, of_keys) for x in of_tokens),
  )


def _partition_specs(
  key: Array, structure: tiled_attention.Structure, batch_size: int
) -> tuple[jax.P, tiled_attention.Structure]:
  """Axes that split queries, keys and values, and those of the structure."""
  # None, not an empty tuple, for replicated axes.
  batch = collectives.dividing_axes(mesh_lib.BATCH_AXES, batch_size) or None
  tensor = collectives.dividing_axes(['tensor'], key.shape[2]) or None

  def spec(name, x):
    if x is None:
      return None
    if x.ndim == 0:
      return jax.P()
    of_queries = not name.startswith('key') and x.shape[1] > 1
    return jax.P(
      batch if x.shape[0] > 1 else None, AXIS if of_queries else None
    )

  specs = {name: spec(name, x) for name, x in structure._asdict().items()}
  return jax.P(batch, AXIS, tensor), tiled_attention.Structure(**specs)
