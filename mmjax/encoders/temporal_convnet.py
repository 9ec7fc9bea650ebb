"""The temporal convolutional network."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.parallel import convolutions
from mmjax.types import Array, DropRate, Size, TokenVectors


class TemporalConvNet(nn.Module):
  """Convolves over the past of each step, ever further from block to block.

  TCN (Bai et al. 2018, section 3 and figure 1): causal residual blocks whose
  dilation doubles, so that the last step depends on the `1 + 2 * (kernel_size -
  1) * (2^depth - 1)` steps up to itself.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    kernel_size: steps that a convolution reaches over, apart by its dilation.
    pooling: 'last', 'first' or 'mean' real step.
    dropout: rate on whole channels after each convolution.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  kernel_size: Size = 3
  pooling: str = 'last'
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    self.blocks = [
      CausalBlock(self.width, self.kernel_size, 2**i, self.dropout, self.dtype)
      for i in range(self.depth)
    ]

  def __call__(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes series, or spectrograms frame by frame.

    Args:
      series: [B, T, C] floats, C values a step.
      mask: [B, T], True where a step is real; None means everywhere. Other
        steps count as 0.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, T, D].

    Raises:
      ConfigError: if `pooling` is unknown.
    """
    x, mask = self.embed(series, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Returns the series [B, T, C], 0 where the mask [B, T] is False."""
    del train
    ops.check_mask(mask, series, 'series', 'B T')
    if mask is None:
      mask = jnp.ones(series.shape[:2], bool)
    return ops.zero_masked(series, mask).astype(self.dtype), mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Applies the blocks to [B, T, C]."""
    for block in self.blocks:
      x = block(x, mask, train=train)
    return x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises steps [B, T, D] as [B, D]; sown as `pooled`."""
    del train
    pooled = mnn.pool(self.pooling, x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled


class CausalBlock(nn.Module):
  """Two causal convolutions on a residual (Bai et al. 2018, figure 1b).

  Attributes:
    width: number of features D.
    kernel_size: steps that a convolution reaches over.
    dilation: how far they are apart.
    dropout: rate on whole channels after each convolution.
    dtype: dtype of the computation.
  """

  width: Size
  kernel_size: Size
  dilation: Size
  dropout: DropRate
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Maps [B, T, C] to [B, T, D]; steps without `mask` [B, T] count as 0."""
    conv = functools.partial(CausalConv, self.width, dtype=self.dtype)
    y = x
    for name in ('conv1', 'conv2'):
      y = conv(self.kernel_size, self.dilation, name=name)(
        ops.zero_masked(y, mask)
      )
      y = nn.Dropout(self.dropout, broadcast_dims=(1,))(
        jax.nn.relu(y), deterministic=not train
      )
    if x.shape[-1] != self.width:
      x = conv(1, 1, name='shortcut')(x)
    y = jax.nn.relu(x + y)
    self.sow('intermediates', 'output', y)
    return y


class CausalConv(nn.Module):
  """A dilated convolution over the past, with weight normalisation.

  A kernel is a direction times a length (Salimans and Kingma 2016, equation 2).

  Attributes:
    width: number of features D.
    kernel_size: K, steps that it reaches over.
    dilation: how far they are apart.
    dtype: dtype of the computation.
  """

  width: Size
  kernel_size: Size
  dilation: Size
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, T, C] to [B, T, D]; step t depends on t - i * dilation."""
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(
        nn.initializers.he_normal(), (None, None, 'conv')
      ),
      (self.kernel_size, x.shape[-1], self.width),
      jnp.float32,
    )
    per_channel = lambda name, init: self.param(
      name,
      nn.with_logical_partitioning(init, ('conv',)),
      (self.width,),
      jnp.float32,
    )[None, None]
    length = per_channel('scale', nn.initializers.ones)
    norm = jnp.sqrt(jnp.sum(jnp.square(kernel), axis=(0, 1), keepdims=True))
    kernel = length * kernel / norm
    y = convolutions.convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      window_strides=(1,),
      padding=(((self.kernel_size - 1) * self.dilation, 0),),
      rhs_dilation=(self.dilation,),
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )  # [B, T, D]
    bias = per_channel('bias', nn.initializers.zeros)
    return y + bias.astype(self.dtype)
