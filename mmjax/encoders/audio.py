"""A transformer of the frames of a spectrogram."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError, check_choice
from mmjax.parallel import convolutions
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors

_POSITIONS = ('learned', 'sincos', 'fixed', 'none')


class AudioTransformer(tower.Tower):
  """Encodes a spectrogram: convolutions over time, then a transformer.

  The encoder of Whisper (Radford et al. 2022, section 2.2) with
  `positions='fixed'`; that of Qwen2-Audio (Chu et al. 2024, section 2) with
  `merged=2` and `convolves_padding` besides; that of Qwen2.5-Omni (Xu et al.
  2025, section 2.2) with `merged=2` and `chunk`.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    max_length: most tokens, of a chunk where there are, the size of a position
      table.
    chunk: how many frames are encoded by themselves, with positions of their
      own, before tokens are merged: neither convolutions nor attention reach
      over their ends; 0 for all.
    strides: of the convolutions, one after the other, each over 3 frames; their
      product is how many frames a token stands for.
    positions: 'learned', 'sincos', 'fixed' (a table among the parameters that
      starts as 'sincos' and gets no gradient, as published weights have it) or
      'none'.
    merged: how many neighbouring tokens are averaged after the blocks; a token
      of which one is padding is padding.
    convolves_padding: whether convolutions read padding as it is, such as the
      spectrogram of silence, which blocks do not; otherwise it changes nothing.
    pooling: 'mean', 'first', 'last' or 'attention'.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the tokens before the stack.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  max_length: Size = 1500
  chunk: int = 0
  strides: Sequence[int] = (1, 2)
  positions: str = 'sincos'
  merged: Size = 1
  convolves_padding: bool = False
  pooling: str = 'mean'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    stride = math.prod(self.strides)
    if self.chunk < 0 or self.chunk % stride:
      raise ConfigError(
        f'chunk is {self.chunk}, but should be 0 or a multiple of the {stride} '
        'frames of a token'
      )
    self.frames = FrameEmbedding(
      self.width,
      self.max_length,
      strides=self.strides,
      positions=self.positions,
      convolves_padding=self.convolves_padding,
      dtype=self.dtype,
    )
    self.setup_tower(initial_norm=False)

  def __call__(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes spectrograms.

    Args:
      spectrogram: [B, F, M] floats, such as `mmjax.ops.log_mel` gives.
      mask: [B, F], True where there is sound, before padding; None means
        everywhere. Frames where it is False change nothing.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], N = F divided by each of `strides`,
      rounded up, then by `merged`, rounded down.

    Raises:
      ConfigError: if there are more tokens than `max_length`, `positions` or
        `pooling` is unknown, or `chunk` is not a whole number of tokens.
    """
    x, mask = self.embed(spectrogram, mask, train=train)
    x = self.stack(x, mask, train=train)
    mask = self._merge_mask(mask)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def mask_tokens(self, mask: Array) -> Array:
    """Which tokens [B, N] are real, of the mask [B, F] of frames."""
    for stride in self.strides:
      mask = mask[:, ::stride]
    return self._merge_mask(mask)

  def _merge_mask(self, mask: Array) -> Array:
    if self.merged == 1:
      return mask
    return _cut_groups(mask, self.merged).all(axis=2)

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets tokens [B, N, D] attend where `mask` [B, N] is True."""
    number = self.chunk // math.prod(self.strides)
    chunks = [_cut_chunks(array, number) for array in (x, mask)]
    y, _ = self.blocks(
      chunks[0], visible=mnn.Visible.of_keys(chunks[1]), train=train
    )
    x = _join_chunks(y, *x.shape[:2])
    if self.merged > 1:
      x = _cut_groups(x, self.merged).mean(axis=2)  # [B, N / merged, D]
    return self.last_norm(x) if self.final_norm else x

  def embed(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns [B, F, M] into tokens [B, N, D] and their mask [B, N]."""
    ops.check_mask(mask, spectrogram, 'spectrograms', 'B F')
    if mask is None:
      mask = jnp.ones(spectrogram.shape[:2], bool)
    chunks = [_cut_chunks(array, self.chunk) for array in (spectrogram, mask)]
    x, _ = self.frames(*chunks)  # [B * c, n, D]
    for stride in self.strides:
      mask = mask[:, ::stride]
    x = _join_chunks(x, *mask.shape)  # [B, N, D]
    return self.embed_dropout(x, deterministic=not train), mask


def _cut_chunks(x: Array, size: int) -> Array:
  """Cuts [B, N, ...] as [B * c, size, ...], padded with zeros; 0 cuts none."""
  if not size:
    return x
  padding = [(0, 0)] * x.ndim
  padding[1] = (0, -x.shape[1] % size)
  return jnp.pad(x, padding).reshape(-1, size, *x.shape[2:])


def _join_chunks(x: Array, batch: int, number: int) -> Array:
  """Joins [B * c, n, D] as [B, N, D], without the padding of `_cut_chunks`."""
  return x.reshape(batch, -1, x.shape[2])[:, :number]


def _cut_groups(x: Array, number: int) -> Array:
  """Groups tokens [B, N, ...] as [B, N / number, number, ...]."""
  whole = x.shape[1] // number * number
  return x[:, :whole].reshape(len(x), -1, number, *x.shape[2:])


class FrameEmbedding(nn.Module):
  """Convolves over time, and adds positions.

  Attributes:
    width: number of features D.
    max_length: most tokens.
    strides: frames that each convolution, before its GELU, steps over.
    positions: 'learned', 'sincos', 'fixed' or 'none', as `AudioTransformer`.
    convolves_padding: whether convolutions read padding, as `AudioTransformer`.
    dtype: dtype of the computation.
  """

  width: Size
  max_length: Size
  strides: Sequence[int] = (1, 2)
  positions: str = 'sincos'
  convolves_padding: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
    """Maps [B, F, M] and mask [B, F] to [B, N, D] and [B, N]."""
    for i, stride in enumerate(self.strides):
      # A convolution reaches over the end, where it must find zeros.
      x = x if self.convolves_padding else ops.zero_masked(x, mask)
      x = nn.Conv(
        self.width,
        (3,),
        (stride,),
        padding=((1, 1),),
        conv_general_dilated=convolutions.convolve,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.he_normal(), (None, None, 'embed')
        ),
        bias_init=nn.with_logical_partitioning(
          nn.initializers.zeros, ('embed',)
        ),
        dtype=self.dtype,
        name=f'conv{i + 1}',
      )(x)
      x = jax.nn.gelu(x, approximate=False)  # [B, F / stride, D]
      mask = mask[:, ::stride]
    return x + self._make_table(x.shape[1]), mask

  def _make_table(self, length: int) -> Array:
    if length > self.max_length:
      raise ConfigError(
        f'the spectrogram makes {length} tokens, more than max_length '
        f'{self.max_length}; cut it or raise max_length'
      )
    check_choice(self.positions, _POSITIONS, 'positions')
    if self.positions == 'none':
      return jnp.zeros((1, 1, self.width), self.dtype)
    shape = (self.max_length, self.width)
    if self.positions == 'sincos':
      table = ops.sincos_1d(*shape)
    else:
      fixed = self.positions == 'fixed'
      init = nn.initializers.normal(0.02)
      if fixed:
        init = lambda _, shape, dtype: ops.sincos_1d(*shape).astype(dtype)
      table = self.param(
        'position_table',
        nn.with_logical_partitioning(init, (None, 'embed')),
        shape,
        jnp.float32,
      )
      if fixed:
        table = jax.lax.stop_gradient(table)
    return table[None, :length].astype(self.dtype)
