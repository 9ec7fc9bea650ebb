"""Recurrent text encoders."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.errors import check_choice
from mmjax.types import Array, DropRate, Size, Tokens

_CELLS = {'gru': nn.GRUCell, 'lstm': nn.OptimizedLSTMCell}


def _partition(
  init: nn.initializers.Initializer,
) -> nn.initializers.Initializer:
  return nn.with_logical_partitioning(init, ('embed', None))


class Recurrent(nn.Module):
  """Encodes a token sequence one by one.

  A GRU (Cho et al. 2014) or LSTM (Hochreiter and Schmidhuber 1997), one or both
  ways. Real tokens must come before padding.

  Attributes:
    vocab_size: size of the vocabulary V.
    width: D, of embeddings, states and results.
    depth: number of layers, with a residual around each but the first.
    cell: 'gru' or 'lstm'.
    bidirectional: whether a second network goes from the end; both results are
      projected to `width`.
    pooling: 'last', 'first' or 'mean'.
    dropout: rate on the embedded tokens.
    dtype: of the computation; parameters are float32.
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
    check_choice(self.cell, _CELLS, 'cell')
    self.words = mnn.TokenEmbedding(
      self.vocab_size, self.width, 0, positions='none', dtype=self.dtype
    )
    self.embed_dropout = nn.Dropout(self.dropout)
    cell = _CELLS[self.cell]

    def layer(reverse: bool) -> nn.RNN:
      return nn.RNN(
        cell(
          self.width,
          kernel_init=_partition(nn.initializers.lecun_normal()),
          recurrent_kernel_init=_partition(nn.initializers.orthogonal()),
          dtype=self.dtype,
          parent=None,
        ),
        reverse=reverse,
        keep_order=True,
      )

    self.forward = [layer(False) for _ in range(self.depth)]
    if self.bidirectional:
      self.backward = [layer(True) for _ in range(self.depth)]
      self.merge = [
        nn.Dense(
          self.width,
          kernel_init=_partition(nn.initializers.lecun_normal()),
          dtype=self.dtype,
        )
        for _ in range(self.depth)
      ]

  def __call__(
    self, tokens: Array, mask: Array | None = None, *, train: bool
  ) -> Tokens:
    """Encodes token ids.

    Args:
      tokens: [B, T] int32.
      mask: [B, T], True where there is a token; None means everywhere.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, T, D].

    Raises:
      ConfigError: if `cell` or `pooling` is unknown.
    """
    x, mask = self.embed(tokens, mask, train=train)
    x = self.stack(x, mask, train=train)
    return Tokens(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, tokens: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Embeds ids [B, T]: vectors [B, T, D] and a mask [B, T]."""
    if mask is None:
      mask = jnp.ones(tokens.shape, bool)
    x = self.embed_dropout(self.words(tokens), deterministic=not train)
    return x, mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Runs over [B, T, D], as far as `mask` [B, T] is True."""
    del train
    lengths = mask.sum(axis=1)  # [B]
    for i in range(self.depth):
      y = self.forward[i](x, seq_lengths=lengths)
      if self.bidirectional:
        back = self.backward[i](x, seq_lengths=lengths)  # [B, T, D]
        y = self.merge[i](jnp.concatenate([y, back], axis=-1))  # [B, T, D]
      y = y.astype(self.dtype)  # States are float32.
      x = y if i == 0 else x + y
    return x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises tokens [B, T, D] as [B, D]; sown as `pooled`."""
    del train
    pooled = mnn.pool(self.pooling, x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled
