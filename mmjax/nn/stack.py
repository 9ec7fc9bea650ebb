"""The one stack of blocks, scanned over layers or unrolled."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax.nn import block as block_lib
from mmjax.types import Array, Params

REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Stack(nn.Module):
  """`depth` blocks, one after the other.

  Scanned, the parameters of all layers are stacked under `layers` and the
  program is compiled once for one layer; unrolled, they are under `layers_0`,
  `layers_1`, ... `stack_layers` and `unstack_layers` turn one into the other.

  Attributes:
    depth: number of blocks L; 0 gives the input back.
    width: D.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `Block`.
    drop_path: stochastic depth of the last layer; it grows linearly from 0 at
      the first (Huang et al. 2016, equation 4).
    local_layers: numbers of the blocks whose tokens see no further than
      `local_mask` lets them (windows, Beltagy et al. 2020, section 3.1).
    scan: whether to scan over layers.
    remat: 'none', 'full' (keep only what enters a layer) or 'dots' (keep also
      the results of matrix products with weights) for the backward pass.
    dtype: of the computation.
  """

  depth: int
  width: int
  num_heads: int
  mlp_dim: int
  block: Mapping[str, Any] | None = None
  drop_path: float = 0.0
  local_layers: Sequence[int] = ()
  scan: bool = True
  remat: str = 'none'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: Array | None = None,
    *,
    mask: Array | None = None,
    causal: bool = False,
    context_mask: Array | None = None,
    positions: Array | None = None,
    offsets: Array | None = None,
    cache: block_lib.BlockCache | None = None,
    index: Array | int = 0,
    local_mask: Array | None = None,
    stop: int | None = None,
    train: bool,
  ) -> tuple[Array, block_lib.BlockCache | None]:
    """Applies the blocks, as `Block` does; a cache has [L, ...] leaves.

    Two things are only of a stack:

    Args:
      x: see `Block`.
      context: see `Block`.
      mask: see `Block`.
      causal: see `Block`.
      context_mask: see `Block`.
      positions: see `Block`.
      offsets: see `Block`; the same in all blocks.
      cache: see `Block`.
      index: see `Block`.
      local_mask: what `mask` is, for the blocks in `local_layers`.
      stop: how many blocks count; those after them, which have parameters all
        the same, change nothing. None means all.
      train: see `Block`.

    Returns:
      The tokens [B, T, D] and the new cache, None if none was given.

    Raises:
      ValueError: for an unknown `remat`, a `drop_path` outside [0, 1), a `stop`
        that is no number of blocks, or a local layer without `local_mask`.
    """
    if self.depth == 0:
      return x.astype(self.dtype), cache
    if not 0 <= self.drop_path < 1:
      raise ValueError(
        f'drop_path {self.drop_path} is no probability below 1; use, say, 0.1'
      )
    if stop is not None and not 0 <= stop <= self.depth:
      raise ValueError(
        f'stop {stop} is no number of blocks; use one from 0 to {self.depth}'
      )
    if self.local_layers and (local_mask is None or mask is None):
      raise ValueError(
        f'local_layers {tuple(self.local_layers)} need mask and local_mask; '
        'pass both'
      )
    has_drop_path = self.drop_path > 0

    def body(layer, x, per_layer):
      cache, drop_path, number = per_layer
      visible = mask
      if self.local_layers:
        local = jnp.isin(number, jnp.asarray(tuple(self.local_layers)))
        visible = jnp.where(local, local_mask, mask)
      y, cache = layer(
        x,
        context,
        mask=visible,
        causal=causal,
        context_mask=context_mask,
        positions=positions,
        offsets=offsets,
        cache=cache,
        index=index,
        drop_path=drop_path if has_drop_path else 0.0,
        train=train,
      )
      return (y if stop is None else jnp.where(number < stop, y, x)), cache

    body = self._rematerialised(body)
    rates = jnp.asarray(np.linspace(0, self.drop_path, self.depth), jnp.float32)
    x = x.astype(self.dtype)
    if self.scan:
      scanned = nn.scan(
        body,
        variable_axes={'params': 0, 'intermediates': 0},
        split_rngs={'params': True, 'dropout': True},
        length=self.depth,
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )
      per_layer = (cache, rates, jnp.arange(self.depth))
      return scanned(self._block('layers'), x, per_layer)
    caches = []
    for i in range(self.depth):
      of_layer = jax.tree.map(lambda leaf, i=i: leaf[i], cache)
      per_layer = (of_layer, rates[i], jnp.asarray(i))
      x, new = body(self._block(f'layers_{i}'), x, per_layer)
      caches.append(new)
    if cache is None:
      return x, None
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *caches)

  def _block(self, name: str) -> block_lib.Block:
    return block_lib.Block(
      self.width,
      self.num_heads,
      self.mlp_dim,
      **(self.block or {}),
      dtype=self.dtype,
      name=name,
    )

  def _rematerialised(self, body):
    if self.remat == 'none':
      return body
    if self.remat not in REMAT_POLICIES:
      raise ValueError(
        f'remat {self.remat!r} is unknown; use one of '
        f'{["none", *REMAT_POLICIES]}'
      )
    return nn.remat(
      body, policy=REMAT_POLICIES[self.remat], prevent_cse=not self.scan
    )


def empty_cache(
  *,
  depth: int,
  batch: int,
  length: int,
  num_heads: int,
  head_dim: int,
  context_length: int | None = None,
  dtype: Any = jnp.float32,
) -> block_lib.BlockCache:
  """Makes room for decoding `length` tokens with a `Stack`.

  Args:
    depth: L.
    batch: B.
    length: S, number of slots.
    num_heads: G, number of key-value heads.
    head_dim: K.
    context_length: number of context tokens, with cross-attention.
    dtype: the Stack's.

  Returns:
    Zeros, leaves [L, B, S, G, K].
  """

  def zeros(slots: int):
    array = jnp.zeros((depth, batch, slots, num_heads, head_dim), dtype)
    return block_lib.attention.KeyValues(array, array)

  cross = None if context_length is None else zeros(context_length)
  return block_lib.BlockCache(zeros(length), cross)


def unstack_layers(params: Params) -> Params:
  """Turns a scanned Stack's parameters into an unrolled one's.

  Works at any depth of a tree: each `layers` with leaves [L, ...] becomes
  `layers_0` ... `layers_{L-1}`.
  """
  if not isinstance(params, Mapping):
    return params
  out = {}
  for name, child in params.items():
    if name != 'layers':
      out[name] = unstack_layers(child)
      continue
    depth = jax.tree.leaves(child)[0].shape[0]
    for i in range(depth):
      out[f'layers_{i}'] = jax.tree.map(lambda leaf, i=i: leaf[i], child)
  return out


def stack_layers(params: Params) -> Params:
  """Turns an unrolled Stack's parameters into a scanned one's.

  The inverse of `unstack_layers`.
  """
  if not isinstance(params, Mapping):
    return params
  depth = 0
  while f'layers_{depth}' in params:
    depth += 1
  layers = [params[f'layers_{i}'] for i in range(depth)]
  out = {
    name: stack_layers(child)
    for name, child in params.items()
    if name not in {f'layers_{i}' for i in range(depth)}
  }
  if layers:
    out['layers'] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
  return out
