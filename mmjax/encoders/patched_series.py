"""The transformer of patches of a time series."""

from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors

_CHANNELS = ('independent', 'mixed')
_EPSILON = 1e-5


class PatchedSeries(tower.Tower):
  """Cuts a series into patches of time and lets them attend to each other.

  PatchTST (Nie et al. 2023, section 3.1), with the blocks of `mmjax.nn.Block`,
  so layer instead of batch normalisation, and without its forecasting head.
  Where the last patch is longer than the series, it is filled with zeros.

  Attributes:
    patch_size: steps of a patch.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    stride: steps from one patch to the next, at most `patch_size`.
    max_length: most patches of a channel, the size of the position table.
    channels: 'independent' (patches of each channel by themselves, by the same
      parameters, which don't know the channel) or 'mixed' (a patch has all).
    instance_norm: whether each series and channel is brought to mean 0 and
      variance 1 first (Kim et al. 2022, RevIN), so that its level and scale
      are lost.
    positions: 'learned', 'sincos' or 'none'.
    pooling: 'mean', or 'first', 'last' or 'attention' of all tokens in a row.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded patches.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  patch_size: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  stride: Size = 8
  max_length: Size = 512
  channels: str = 'independent'
  instance_norm: bool = True
  positions: str = 'learned'
  pooling: str = 'mean'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    check_choice(self.channels, _CHANNELS, 'channels')
    if self.stride > self.patch_size:
      raise ConfigError(
        f'stride {self.stride} is more than patch_size {self.patch_size}, so '
        'steps between patches would be lost; use a smaller stride'
      )
    self.projection = mnn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
    )
    self.position_embedding = mnn.Positions(
      self.width, self.max_length, self.positions, self.dtype
    )
    self.setup_tower(initial_norm=False)

  def __call__(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes series.

    Args:
      series: [B, T, C] floats, C values a step.
      mask: [B, T], True where a step is real; None means everywhere. Other
        steps count as the mean with `instance_norm`, as 0 without.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, C * N, D], all N patches of the first channel
      first, with mixed channels [B, N, D]; N = ceil((T - patch_size) / stride)
      + 1.

    Raises:
      ConfigError: if N is more than `max_length`, a setting is unknown, or
        `stride` is more than `patch_size`.
    """
    x, mask = self.embed(series, mask, train=train)
    x = self.stack(x, mask, train=train)
    mask = einops.repeat(mask, 'b n -> b (c n)', c=x.shape[1])
    x = einops.rearrange(x, 'b c n d -> b (c n) d')
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns [B, T, C] into patches [B, C, N, D], mixed [B, 1, N, D].

    The second result is their mask [B, N]. A patch is real if there is a real
    step that the patch before doesn't have.
    """
    ops.check_mask(mask, series, 'series', 'B T')
    if mask is None:
      mask = jnp.ones(series.shape[:2], bool)
    x = ops.zero_masked(series, mask)
    if self.instance_norm:
      x = _normalise(x, mask)
    size, stride = self.patch_size, self.stride
    number = max(-(-(x.shape[1] - size) // stride), 0) + 1  # N
    missing = (number - 1) * stride + size - x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
    mask = jnp.pad(mask, ((0, 0), (0, missing)))
    steps = jnp.arange(number)[:, None] * stride + jnp.arange(size)[None]
    x = x[:, steps]  # [B, N, P, C]
    if self.channels == 'mixed':
      x = einops.rearrange(x, 'b n p c -> b 1 n (p c)')
    else:
      x = einops.rearrange(x, 'b n p c -> b c n p')
    x = self.projection(x)  # [B, C, N, D]
    x = x + self.position_embedding(number)[None]
    # P = 4, stride = 2: steps 0 1 2 3 are new in patch 0, 4 5 in patch 1, ...
    new = einops.rearrange(mask[:, size:], 'b (n s) -> b n s', s=stride)
    first = jnp.any(mask[:, :size], axis=1, keepdims=True)
    mask = jnp.concatenate([first, jnp.any(new, axis=2)], axis=1)  # [B, N]
    return self.embed_dropout(x, deterministic=not train), mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets patches [B, C, N, D] of a channel attend where `mask` is True."""
    channels = x.shape[1]
    x = super().stack(
      einops.rearrange(x, 'b c n d -> (b c) n d'),
      jnp.repeat(mask, channels, axis=0),
      train=train,
    )
    return einops.rearrange(x, '(b c) n d -> b c n d', c=channels)


def _normalise(x: Array, mask: Array) -> Array:
  """Each channel with mean 0 and variance 1 over its real steps.

  Args:
    x: [B, T, C], 0 where `mask` [B, T] is False.
    mask: its real steps.
  """
  x, real = x.astype(jnp.float32), mask[:, :, None]
  number = jnp.maximum(mask.sum(axis=1), 1)[:, None, None]  # [B, 1, 1]
  mean = x.sum(axis=1, keepdims=True) / number
  centred = jnp.where(real, x - mean, 0.0)
  variance = jnp.square(centred).sum(axis=1, keepdims=True) / number
  return centred / jnp.sqrt(variance + _EPSILON)
