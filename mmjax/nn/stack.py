"""The one stack of blocks, scanned over layers or unrolled."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.nn import block as block_lib
from mmjax.nn import cache as cache_lib
from mmjax.nn import remat as remat_lib
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, DropRate, Params, Remat, Size

# A window that leaves out nothing.
_UNLIMITED = 2**30


class Stack(nn.Module):
  """`depth` blocks, one after the other.

  Scanned, the parameters of all layers are stacked under `layers` and the
  program is compiled once for one layer; unrolled, they are under `layers_0`,
  `layers_1`, ... `stack_layers` and `unstack_layers` turn one into the other.

  Attributes:
    depth: number of blocks L; 0 gives the input back.
    width: number of features D.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `Block`.
    drop_path: stochastic depth of the last layer; it grows linearly from 0 at
      the first (Huang et al. 2016, equation 4).
    local_layers: numbers of the blocks in which tokens attend within their
      `local_segments`, or to the last `window` tokens (Beltagy et al. 2020,
      section 3.1).
    window: number of tokens up to itself that a token attends to in the local
      layers; None for any.
    scan: whether to scan over layers.
    remat: what a layer keeps for the backward pass, a policy of
      `mmjax.nn.remat`: 'none' (everything), 'dots', 'projections', 'attention',
      'full' (only what enters it), or 'offload' to the host's memory.
    dtype: dtype of the computation.
  """

  depth: int
  width: Size
  num_heads: Size
  mlp_dim: Size
  block: Mapping[str, Any] | None = None
  drop_path: DropRate = 0.0
  local_layers: Sequence[int] = ()
  window: Size | None = None
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: visible_lib.Context | None = None,
    visible: visible_lib.Visible = visible_lib.EVERYTHING,
    decoding: cache_lib.Decoding | None = None,
    *,
    condition: Array | None = None,
    local_segments: Array | None = None,
    added: Array | None = None,
    stop: int | None = None,
    hidden: dict[int, Array] | None = None,
    train: bool,
  ) -> tuple[Array, cache_lib.BlockCache | None]:
    """Applies the blocks to T tokens, one after the other.

    Where 'intermediates' are collected, those of `Block` are under `layers`,
    with a leading axis L, or unrolled under `layers_0`, `layers_1`, ...

    Args:
      x: [B, T, D].
      context: S tokens of width E, for cross-attention; the same in all blocks.
      visible: which tokens each token may attend to in self-attention; the same
        in all blocks but `local_layers`.
      decoding: a `BlockCache` with leaves [L, ...] and where in it new tokens
        go; None outside decoding.
      condition: [B, C], the same in all blocks, if they are `modulated`; or
        [L, B, C], each block's own.
      local_segments: [B, T], instead of `visible.segments` in `local_layers`.
      added: [n, B, T, D], what is added to the tokens after each of the first n
        blocks (DeepStack, Meng et al. 2024); None for nothing.
      stop: number of blocks that count; those after them, which have parameters
        all the same, change nothing. None means all.
      hidden: its keys are numbers of blocks, 0 to L; their values become the
        tokens [B, T, D] after as many. None keeps none.
      train: whether dropout and stochastic depth are on.

    Returns:
      The tokens [B, T, D] and the new cache, None without `decoding`.

    Raises:
      ConfigError: for an unknown `remat`, a `drop_path` outside [0, 1), a
        `stop` outside 0..L, more `added` than blocks, local layers without a
        window or `local_segments` and `visible.segments`, or a window without
        local layers.
    """
    if self.depth == 0:
      _fill(hidden, x.astype(self.dtype), ())
      return x.astype(self.dtype), None if decoding is None else decoding.cache
    self._check(visible, local_segments, stop)
    self._check_added(added)
    has_drop_path = self.drop_path > 0
    by_layer = condition is not None and condition.ndim == 3
    shared, conditions = (None, condition) if by_layer else (condition, None)

    def body(layer, x, per_layer):
      cache, drop_path, number, own = per_layer
      chosen = shared if own is None else own
      y, cache = layer(
        x,
        context,
        self._restrict(visible, local_segments, number),
        None if decoding is None else decoding.replace(cache=cache),
        drop_path=drop_path if has_drop_path else 0.0,
        train=train,
        **({} if chosen is None else {'condition': chosen}),
      )
      y = y if added is None else y + _take_added(added, number, y.dtype)
      y = y if stop is None else jnp.where(number < stop, y, x)
      return y, (cache, None if hidden is None else y)

    body = remat_lib.rematerialise(body, self.remat, prevent_cse=not self.scan)
    rates = jnp.asarray(np.linspace(0, self.drop_path, self.depth), jnp.float32)
    x = x.astype(self.dtype)
    cache = None if decoding is None else decoding.cache  # [L, ...]
    if self.scan:
      scanned = nn.scan(
        body,
        # Without 'intermediates', what blocks sow would vanish silently.
        variable_axes={'params': 0, 'intermediates': 0},
        split_rngs={'params': True, 'dropout': True},
        length=self.depth,
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )
      per_layer = (cache, rates, jnp.arange(self.depth), conditions)
      last, (cache, kept) = scanned(self.make_block('layers'), x, per_layer)
      _fill(hidden, x, kept)
      return last, cache
    caches, kept, first = [], [], x
    for i in range(self.depth):
      of_layer = jax.tree.map(lambda leaf, i=i: leaf[i], cache)
      own = conditions[i] if by_layer else None
      per_layer = (of_layer, rates[i], jnp.asarray(i), own)
      x, (new, _) = body(self.make_block(f'layers_{i}'), x, per_layer)
      caches.append(new)
      kept.append(x)
    _fill(hidden, first, kept)
    if decoding is None:
      return x, None
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *caches)

  def _restrict(
    self,
    visible: visible_lib.Visible,
    local_segments: Array | None,
    number: Array,
  ) -> visible_lib.Visible:
    """What is visible in a block, by its number."""
    if not self.local_layers:
      return visible
    local = jnp.isin(number, jnp.asarray(tuple(self.local_layers)))
    visible = visible.replace(local=local)
    if local_segments is not None:
      visible = visible.replace(
        segments=jnp.where(local, local_segments, visible.segments)
      )
    if self.window is not None:
      window = jnp.where(local, self.window, _UNLIMITED)
      visible = visible.replace(window=window)
    return visible

  def _check(
    self,
    visible: visible_lib.Visible,
    local_segments: Array | None,
    stop: int | None,
  ) -> None:
    if not 0 <= self.drop_path < 1:
      raise ConfigError(
        f'drop_path must be at least 0 and less than 1, got {self.drop_path}'
      )
    if stop is not None and not 0 <= stop <= self.depth:
      raise ConfigError(
        f'stop must be from 0 to {self.depth}, the number of blocks, got {stop}'
      )
    missing = local_segments is None or visible.segments is None
    if self.local_layers and missing and self.window is None:
      raise ConfigError(
        f'local_layers {tuple(self.local_layers)} need segments and '
        'local_segments, or a window; pass both or set window'
      )
    if self.window is not None and not self.local_layers:
      raise ConfigError(
        f'window {self.window} is that of local layers, and there are none; '
        'set local_layers or leave it out'
      )

  def _check_added(self, added: Array | None) -> None:
    if added is not None and len(added) > self.depth:
      raise ConfigError(
        f'{len(added)} levels are added after as many blocks, but there are '
        f'{self.depth}; use a deeper stack or fewer levels'
      )

  def make_block(self, name: str) -> block_lib.Block:
    """Makes one layer; a subclass with other layers makes its own."""
    return block_lib.Block(
      self.width,
      self.num_heads,
      self.mlp_dim,
      **(self.block or {}),
      dtype=self.dtype,
      name=name,
    )


def _take_added(added: Array, number: Array, dtype: Any) -> Array:
  """What is added after a block, by its number; zeros behind the last."""
  own = added[jnp.minimum(number, len(added) - 1)]
  return jnp.where(number < len(added), own, 0).astype(dtype)


def _fill(
  hidden: dict[int, Array] | None, first: Array, outputs: Sequence[Array]
) -> None:
  """Sets the values of `hidden`: `first` and the outputs of the blocks."""
  for number in hidden or {}:
    hidden[number] = first if number == 0 else outputs[number - 1]


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
