"""The text transformer, bidirectional or causal."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class Transformer(tower.Tower):
  """Encodes a token sequence.

  With `causal` a GPT-2 or CLIP text tower, without it BERT-like (Devlin et al.
  2019). With depth 0, positions 'none' and mean pooling it is a bag of words.
  With `cross_attention` its tokens also attend to a context, as those of the
  image-grounded text encoder of BLIP (Li et al. 2022, figure 2).

  Attributes:
    vocab_size: size of the vocabulary V.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    max_length: longest sequence, the size of a learned position table.
    causal: whether a token attends only to itself and those before it.
    cross_attention: whether blocks attend to a context where there is one.
    positions: 'learned', 'sincos' or 'none' (rotary ones are set in `block`).
    relative: settings of `mmjax.nn.RelativePositions` (T5: {}); None for none.
    num_segments: number of segments that learned vectors mark
      (BERT: the two sentences of a pair); 0 for none.
    pooling: 'last' real token (CLIP's end of text), 'first', 'mean' or
      'attention'.
    pool_activation: activation of a dense layer after the pooling (BERT:
      'tanh'); None for no such layer.
    reads_padding: whether padding counts as words, so that 'last' is the last
      position, whatever stands there (SigLIP).
    embed_norm: whether the embedding is normalised (BERT).
    final_norm: whether the result is normalised.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tokens.
    word_dropout: fraction of tokens that training leaves out, so that a text
      isn't known by one rare word alone (Iyyer et al. 2015, section 2.2). The
      first, <bos>, always stays.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  vocab_size: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  max_length: Size
  causal: bool = False
  cross_attention: bool = False
  positions: str = 'learned'
  relative: Mapping[str, Any] | None = None
  num_segments: int = 0
  pooling: str = 'last'
  pool_activation: str | None = None
  reads_padding: bool = False
  embed_norm: bool = False
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  word_dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    if not 0 <= self.word_dropout < 1:
      raise ConfigError(
        f'word_dropout must be at least 0 and less than 1, got '
        f'{self.word_dropout}'
      )
    self.words = mnn.TokenEmbedding(
      self.vocab_size,
      self.width,
      self.max_length,
      positions=self.positions,
      dtype=self.dtype,
    )
    if self.num_segments:
      self.segments = nn.Embed(
        self.num_segments,
        self.width,
        embedding_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), (None, 'embed')
        ),
        dtype=self.dtype,
      )
    if self.relative is not None:
      self.relative_positions = mnn.RelativePositions(
        self.num_heads, bidirectional=not self.causal, **self.relative
      )
    crossing = {'cross_attention': True, 'context_optional': True}
    self.setup_tower(
      initial_norm=self.embed_norm,
      **(crossing if self.cross_attention else {}),
    )

  def __call__(
    self,
    tokens: Array,
    mask: Array | None = None,
    context: TokenVectors | None = None,
    segments: Array | None = None,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes token ids.

    Args:
      tokens: [B, T] int32, or their word vectors [B, T, D].
      mask: [B, T], True where there is a token; None means everywhere.
      context: values [B, N, E], with cross-attention; without one, the blocks
        skip it.
      segments: [B, T] int32, each token's; None means all are of the first.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, T, D].

    Raises:
      ConfigError: for ids and lengths as `mmjax.nn.TokenEmbedding` does, if a
        setting is unknown, there are segments without `num_segments`, or a
        context without cross-attention.
    """
    x, mask = self.embed(tokens, mask, segments, train=train)
    x = self.stack(x, mask, context, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self,
    tokens: Array,
    mask: Array | None = None,
    segments: Array | None = None,
    *,
    train: bool,
  ) -> tuple[Array, Array]:
    """Embeds ids [B, T]: vectors [B, T, D] and a mask [B, T].

    Word vectors [B, T, D] in their place get positions and norm alone.
    """
    ops.check_mask(mask, tokens, 'texts', 'B T')
    x = self.words(tokens)  # [B, T, D]
    if self.num_segments:
      if segments is None:
        segments = jnp.zeros(x.shape[:2], jnp.int32)
      mnn.check_ids(
        segments, self.num_segments, 'segment', 'raise num_segments'
      )
      x = x + self.segments(segments)
    elif segments is not None:
      raise ConfigError(
        'the text encoder got segments, but its num_segments is 0; set it to '
        'the number of segments, or pass none'
      )
    if self.embed_norm:
      x = self.initial_norm(x)
    if mask is None or self.reads_padding:
      mask = ops.everywhere(*x.shape[:2])
    if train and self.word_dropout:
      kept = jax.random.bernoulli(
        self.make_rng('dropout'), 1 - self.word_dropout, mask.shape
      )
      mask = mask & kept.at[:, 0].set(True)
    return self.embed_dropout(x, deterministic=not train), mask

  def stack(
    self,
    x: Array,
    mask: Array,
    context: TokenVectors | None = None,
    *,
    train: bool,
  ) -> Array:
    """Lets tokens [B, T, D] attend where `mask` [B, T] is True."""
    bias = None
    if self.relative is not None:
      positions = jnp.arange(x.shape[1])[None]  # [1, T]
      bias = self.relative_positions(positions, positions)  # [1, H, T, T]
    if context is not None:
      context = mnn.Context.of(context)
    visible = mnn.Visible.of_keys(mask, causal=self.causal, bias=bias)
    x, _ = self.blocks(x, context, visible, train=train)
    return self.last_norm(x) if self.final_norm else x
