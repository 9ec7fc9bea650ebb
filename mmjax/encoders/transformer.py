"""The text transformer, bidirectional or causal."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.types import Array, Tokens


class Transformer(tower.Tower):
  """Reads a token sequence.

  With `causal` a GPT-2 or CLIP text tower, without it BERT-like (Devlin et al.
  2019). With depth 0, positions 'none' and mean pooling it is a bag of words.

  Attributes:
    vocab_size: V.
    width: D.
    depth: number of blocks.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    max_length: longest sequence, the size of a learned position table.
    causal: whether a token sees only those before it.
    positions: 'learned', 'sincos' or 'none' (rotary ones are set in `block`).
    pooling: 'last' real token (CLIP's end of text), 'first', 'mean' or
      'attention'.
    embed_norm: whether the embedding is normalised (BERT).
    final_norm: whether the result is.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tokens.
    word_dropout: share of tokens that training leaves out, so that a text isn't
      known by one rare word alone (Iyyer et al. 2015, section 2.2). The first,
      <bos>, always stays.
    drop_path: see `mmjax.nn.Stack`.
    scan: see `mmjax.nn.Stack`.
    remat: see `mmjax.nn.Stack`.
    dtype: of the computation; parameters are float32.
  """

  vocab_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
  causal: bool = False
  positions: str = 'learned'
  pooling: str = 'last'
  embed_norm: bool = False
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: float = 0.0
  word_dropout: float = 0.0
  drop_path: float = 0.0
  scan: bool = True
  remat: str = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    if not 0 <= self.word_dropout < 1:
      raise ValueError(
        f'word_dropout {self.word_dropout} is no probability below 1; use, '
        'say, 0.3'
      )
    self.words = mnn.TokenEmbedding(
      self.vocab_size,
      self.width,
      self.max_length,
      positions=self.positions,
      dtype=self.dtype,
    )
    self.setup_tower(initial_norm=self.embed_norm)

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
      ValueError: if T is more than `max_length`, or a setting is unknown.
    """
    x, mask = self.embed(tokens, mask, train=train)
    x = self.stack(x, mask, train=train)
    return Tokens(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, tokens: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Looks up ids [B, T]: vectors [B, T, D] and a mask [B, T]."""
    x = self.words(tokens)
    if self.embed_norm:
      x = self.initial_norm(x)
    if mask is None:
      mask = jnp.ones(tokens.shape, bool)
    if train and self.word_dropout:
      kept = jax.random.bernoulli(
        self.make_rng('dropout'), 1 - self.word_dropout, mask.shape
      )
      mask &= kept.at[:, 0].set(True)
    return self.embed_dropout(x, deterministic=not train), mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets tokens [B, T, D] attend where `mask` [B, T] is True."""
    allowed = mask[:, None]
    if self.causal:
      allowed = allowed & ops.causal_mask(x.shape[1])
    x, _ = self.blocks(x, mask=allowed, train=train)
    return self.last_norm(x) if self.final_norm else x
