"""The convolutional network of spectrograms."""

from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import convolutional
from mmjax.types import Array, TokenVectors

_GROUP_SIZE = 16


class AudioConvNet(nn.Module):
  """Convolves a spectrogram over time and bands, and averages over bands.

  The CNN14 of PANNs (Kong et al. 2020) by default, without its dense layers:
  blocks of two 3x3 convolutions, with average pooling over 2x2 cells between
  them; the summary is the mean plus the maximum over time. CNN10 has `widths=
  (64, 128, 256, 512)`, with 4 blocks. Padding is left out of convolutions,
  norms and averages.

  Attributes:
    widths: channels of each block, the last D.
    norm: 'group' (Wu and He 2018), 'frozen_batch' or 'none'.
    pooling: 'mean_max', 'mean', 'first' or 'last', over time.
    dtype: dtype of the computation; parameters are float32.
  """

  widths: Sequence[int] = (64, 128, 256, 512, 1024, 2048)
  norm: str = 'group'
  pooling: str = 'mean_max'
  dtype: Any = jnp.float32

  def setup(self):
    convolutional.check_norm(self.norm, _GROUP_SIZE, *self.widths)
    self.blocks = [
      MaskedConvBlock(width, self.norm, self.dtype) for width in self.widths
    ]

  def __call__(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes spectrograms.

    Args:
      spectrogram: [B, F, M] floats, such as `mmjax.ops.log_mel` gives.
      mask: [B, F], True where there is sound; None means everywhere.
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: values [B, N, D], N = F / 2^(blocks - 1), rounded up; real
      where one of their frames is.

    Raises:
      ConfigError: if `norm` or `pooling` is unknown, or groups don't divide a
        width.
    """
    x, mask = self.embed(spectrogram, mask, train=train)
    x, mask = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns [B, F, M] into a feature map [B, F, M, 1] and a mask [B, F]."""
    del train
    ops.check_mask(mask, spectrogram, 'spectrograms', 'B F')
    if mask is None:
      mask = jnp.ones(spectrogram.shape[:2], bool)
    x = ops.zero_masked(spectrogram, mask).astype(self.dtype)
    return x[:, :, :, None], mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> tuple[Array, Array]:
    """Applies the blocks: tokens [B, N, D] and their mask [B, N]."""
    del train
    for i, block in enumerate(self.blocks):
      if i:
        x, mask = _halve(x, mask)
      x = block(x, mask)
    return x.mean(axis=2), mask

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises [B, N, D] as [B, D]; sown as `pooled`."""
    del train
    if self.pooling == 'mean_max':
      pooled = ops.mean_tokens(x, mask) + ops.max_tokens(x, mask)
    else:
      pooled = mnn.pool(self.pooling, x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled


class MaskedConvBlock(nn.Module):
  """Two 3x3 convolutions that padding doesn't reach.

  Attributes:
    width: number of features D.
    norm: 'group', 'frozen_batch' or 'none'.
    dtype: dtype of the computation.
  """

  width: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    """Maps a feature map [B, F, M, C] and mask [B, F] to [B, F, M, D]."""
    for i in (1, 2):
      # A convolution reaches over the end, where it must find zeros.
      x = ops.zero_masked(x, mask)
      x = convolutional.make_conv(
        self.width, 3, dtype=self.dtype, name=f'conv{i}'
      )(x)
      norm = convolutional.make_norm(
        self.norm, _GROUP_SIZE, self.dtype, f'norm{i}'
      )
      if self.norm == 'group':
        # Without any real frame, statistics are over all, so that they exist.
        counted = mask | ~jnp.any(mask, axis=1, keepdims=True)
        counted = jnp.broadcast_to(counted[:, :, None, None], x.shape)
        x = norm(x, mask=counted)
      else:
        x = norm(x)
      x = jax.nn.relu(x)
    self.sow('intermediates', 'output', x)
    return x


def _halve(x: Array, mask: Array) -> tuple[Array, Array]:
  """Averages 2 x 2 cells, those of real frames, and their mask.

  Args:
    x: [B, F, M, D].
    mask: [B, F].

  Returns:
    [B, F / 2, M / 2, D] and [B, F / 2], rounded up.
  """
  real = jnp.broadcast_to(mask[:, :, None, None], (*x.shape[:3], 1))
  pads = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  total, number = (
    einops.reduce(
      jnp.pad(cells, pads),
      'b (f p) (m q) d -> b f m d',
      'sum',
      p=2,
      q=2,
    )
    for cells in (ops.zero_masked(x, mask), real.astype(x.dtype))
  )
  return total / jnp.maximum(number, 1), number[:, :, 0, 0] > 0
