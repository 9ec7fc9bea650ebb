"""Recurrent encoders."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import check_choice
from mmjax.types import Array, DropRate, Size, TokenVectors

_CELLS = {'gru': nn.GRUCell, 'lstm': nn.OptimizedLSTMCell}


class RecurrentLayers(nn.Module):
  """Recurrent layers over steps, with a residual around each but the first.

  A subclass has the fields that are used here, those of `Recurrent`, and calls
  `setup_layers` in its `setup`.
  """

  def setup_layers(self) -> None:
    """Makes the layers that the fields set; for the `setup` of a subclass."""
    check_choice(self.cell, _CELLS, 'cell')
    self.embed_dropout = nn.Dropout(self.dropout)
    self.forward = [self._make_layer(False) for _ in range(self.depth)]
    if self.bidirectional:
      self.backward = [self._make_layer(True) for _ in range(self.depth)]
      self.merge = [
        mnn.Dense(
          self.width,
          kernel_init=_partition(nn.initializers.lecun_normal()),
          bias_init=nn.with_logical_partitioning(
            nn.initializers.zeros, (None,)
          ),
          dtype=self.dtype,
        )
        for _ in range(self.depth)
      ]

  def stack(
    self,
    x: Array,
    mask: Array,
    *,
    hidden: dict[int, Array] | None = None,
    train: bool,
  ) -> Array:
    """Runs over [B, T, D], skipping steps where `mask` [B, T] is False.

    Args:
      x: [B, T, D].
      mask: [B, T].
      hidden: its keys are numbers of layers, 0 to `depth`; their values become
        the steps [B, T, D] that come out of so many layers.
      train: unused, as there is no dropout between layers.
    """
    del train
    # Real steps first, in their order; `nn.RNN` only knows lengths.
    order = jnp.argsort(~mask, axis=1, stable=True)[:, :, None]  # [B, T, 1]
    x = jnp.take_along_axis(x, order, axis=1)
    lengths = mask.sum(axis=1)  # [B]
    outputs = [x]
    for i in range(self.depth):
      y = self.forward[i](x, seq_lengths=lengths)
      if self.bidirectional:
        other = self.backward[i](x, seq_lengths=lengths)  # [B, T, D]
        y = self.merge[i](jnp.concatenate([y, other], axis=-1))  # [B, T, D]
      y = y.astype(self.dtype)  # States are float32.
      x = y if i == 0 else x + y
      self.sow('intermediates', 'output', x)
      outputs.append(x)
    back = jnp.argsort(order, axis=1)
    for number in hidden or {}:
      hidden[number] = jnp.take_along_axis(outputs[number], back, axis=1)
    return jnp.take_along_axis(x, back, axis=1)

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises tokens [B, T, D] as [B, D]; sown as `pooled`."""
    del train
    pooled = mnn.pool(self.pooling, x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled

  def _make_layer(self, reverse: bool) -> nn.RNN:
    bias = nn.initializers.zeros
    return nn.RNN(
      _CELLS[self.cell](
        self.width,
        kernel_init=_partition(nn.initializers.lecun_normal()),
        recurrent_kernel_init=_partition(nn.initializers.orthogonal()),
        bias_init=nn.with_logical_partitioning(bias, (None,)),
        dtype=self.dtype,
        parent=None,
      ),
      reverse=reverse,
      keep_order=True,
    )


class Recurrent(RecurrentLayers):
  """Encodes a token sequence one by one.

  A GRU (Cho et al. 2014) or LSTM (Hochreiter and Schmidhuber 1997), one or both
  ways. Tokens where the mask is False are skipped.

  Attributes:
    vocab_size: size of the vocabulary V.
    width: D, of embeddings, states and results.
    depth: number of layers, with a residual around each but the first.
    cell: 'gru' or 'lstm'.
    bidirectional: whether a second network goes from the end; both results are
      projected to `width`.
    pooling: 'last', 'first' or 'mean'.
    dropout: rate on the embedded tokens.
    dtype: dtype of the computation; parameters are float32.
  """

  vocab_size: Size
  width: Size
  depth: int = 1
  cell: str = 'gru'
  bidirectional: bool = False
  pooling: str = 'last'
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    self.words = mnn.TokenEmbedding(
      self.vocab_size, self.width, 0, positions='none', dtype=self.dtype
    )
    self.setup_layers()

  def __call__(
    self, tokens: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes token ids.

    Args:
      tokens: [B, T] int32.
      mask: [B, T], True where there is a token; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, T, D].

    Raises:
      ConfigError: if `cell` or `pooling` is unknown.
    """
    x, mask = self.embed(tokens, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, tokens: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Embeds ids [B, T]: vectors [B, T, D] and a mask [B, T]."""
    ops.check_mask(mask, tokens, 'texts', 'B T')
    if mask is None:
      mask = jnp.ones(tokens.shape, bool)
    x = self.embed_dropout(self.words(tokens), deterministic=not train)
    return x, mask


class RecurrentSeries(RecurrentLayers):
  """Encodes a time series step by step, or a spectrogram frame by frame.

  As `Recurrent`, over a dense layer of each step's values. Steps where the mask
  is False are skipped.

  Attributes:
    width: D, of projected steps, states and results.
    depth: number of layers, with a residual around each but the first.
    cell: 'gru' or 'lstm'.
    bidirectional: whether a second network goes from the end; both results are
      projected to `width`.
    pooling: 'last', 'first' or 'mean'.
    dropout: rate on the projected steps.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int = 1
  cell: str = 'gru'
  bidirectional: bool = False
  pooling: str = 'last'
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    self.projection = mnn.Linear(self.width, dtype=self.dtype)
    self.setup_layers()

  def __call__(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes series.

    Args:
      series: [B, T, C] floats, C values a step.
      mask: [B, T], True where a step is real; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, T, D].

    Raises:
      ConfigError: if `cell` or `pooling` is unknown.
    """
    x, mask = self.embed(series, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, series: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Projects [B, T, C]: vectors [B, T, D] and a mask [B, T]."""
    ops.check_mask(mask, series, 'series', 'B T')
    if mask is None:
      mask = jnp.ones(series.shape[:2], bool)
    x = self.projection(ops.zero_masked(series, mask), train=train)
    return self.embed_dropout(x, deterministic=not train), mask


def _partition(
  init: nn.initializers.Initializer,
) -> nn.initializers.Initializer:
  return nn.with_logical_partitioning(init, ('embed', None))
