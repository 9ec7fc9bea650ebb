"""The causal text decoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.decoders import cache as cache_lib
from mmjax.decoders import logits
from mmjax.errors import ConfigError
from mmjax.types import (
  Array,
  DropRate,
  FactoredLogits,
  Positive,
  Remat,
  Size,
  TokenVectors,
)


class TextDecoder(logits.LogitHead):
  """Predicts each next token from those before it and, if given, a context.

  Without cross-attention this is a language model such as GPT-2; with it, the
  decoder of Vaswani et al. 2017 or of an image captioner. With
  `unimodal_depth`, the decoupled decoder of CoCa (Yu et al. 2022, section 3.2):
  the first layers attend to text alone, and their output also serves as the
  encoding of a text.

  Attributes:
    vocab_size: size of the vocabulary V.
    width: number of features D.
    depth: number of blocks L.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    max_length: longest sequence.
    cross_attention: whether blocks attend to a context.
    unimodal_depth: number of blocks without cross-attention before them.
    positions: 'learned', 'sincos' or 'none' (rotary ones are set in `block`).
    first_position: row of the first token in the table of positions (OPT: 2).
    relative: settings of `mmjax.nn.RelativePositions` (T5: {}); None for none.
    embed_norm: whether the embedding is normalised (BERT).
    tied: whether the output matrix is the embedding's transpose.
    embed_scale: factor on word vectors (Gemma: sqrt(D)).
    final_norm: whether tokens are normalised before the output matrix.
    head_activation: activation of a dense layer with a norm after it, before
      the output matrix (BERT's head: 'gelu'); None for no such layer.
    head_scale: factor on features before the output matrix (T5 with a tied one:
      D**-0.5).
    head_bias: whether the logits have a bias.
    logit_softcap: limit of the logits (Gemma 2: 30); None for none.
    local_layers: numbers of the blocks in which tokens attend to the last
      `window` tokens alone (Gemma 3: five of six).
    window: number of tokens up to itself that a token attends to in these; None
      without any.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tokens.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters and logits are float32.
  """

  vocab_size: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  max_length: Size
  cross_attention: bool = True
  unimodal_depth: int = 0
  positions: str = 'learned'
  first_position: int = 0
  relative: Mapping[str, Any] | None = None
  embed_norm: bool = False
  tied: bool = True
  embed_scale: float = 1.0
  final_norm: bool = True
  head_activation: str | None = None
  head_scale: float = 1.0
  head_bias: bool = False
  logit_softcap: Positive | None = None
  local_layers: Sequence[int] = ()
  window: Size | None = None
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.words = mnn.TokenEmbedding(
      self.vocab_size,
      self.width,
      self.max_length,
      positions=self.positions,
      first_position=self.first_position,
      scale=self.embed_scale,
      dtype=self.dtype,
    )
    self.embed_dropout = nn.Dropout(self.dropout)
    block = self.block or {}

    def stack(depth: int, cross_attention: bool, **settings) -> mnn.Stack:
      return mnn.Stack(
        depth,
        self.width,
        self.num_heads,
        self.mlp_dim,
        block={**block, 'cross_attention': cross_attention},
        drop_path=self.drop_path,
        scan=self.scan,
        remat=self.remat,
        dtype=self.dtype,
        **settings,
      )

    def norm() -> nn.Module:
      return mnn.make_norm(
        block.get('norm', 'layernorm'),
        block.get('norm_epsilon', 1e-6),
        self.dtype,
      )

    if self.relative is not None:
      self.relative_positions = mnn.RelativePositions(
        self.num_heads, bidirectional=False, **self.relative
      )
    if self.embed_norm:
      self.initial_norm = norm()
    if self.unimodal_depth:
      self.unimodal_blocks = stack(self.unimodal_depth, False)
      self.unimodal_norm = norm()
    self.blocks = stack(
      self.depth,
      self.cross_attention,
      local_layers=self.local_layers,
      window=self.window,
    )
    if self.final_norm:
      self.last_norm = norm()
    if self.head_activation is not None:
      self.head_norm = norm()
    self.setup_logits()

  def __call__(
    self,
    tokens: Array,
    mask: Array | None = None,
    context: TokenVectors | None = None,
    *,
    train: bool,
  ) -> Array | FactoredLogits:
    """Predicts, by teacher forcing, what follows each token.

    Args:
      tokens: [B, T] int32, or their vectors [B, T, D], made by `embed`.
      mask: [B, T], True where there is a token; None means everywhere. Padding
        comes last, as positions count from the first token.
      context: values [B, N, E], with cross-attention.
      train: whether dropout is on.

    Returns:
      Logits [B, T, V] float32, in training not materialised.

    Raises:
      ConfigError: for ids and lengths as `mmjax.nn.TokenEmbedding` does, or if
        the context is missing, or passed without cross-attention.
    """
    text = self.encode_text(tokens, mask, train=train)
    features = self.compute_hidden_states(text, context, train=train)
    return self.compute_logits(features, train=train)

  def embed(self, tokens: Array) -> Array:
    """Word vectors [B, T, D] of ids [B, T], without positions."""
    return self.words.embed(tokens)

  def encode_text(
    self,
    tokens: Array,
    mask: Array | None = None,
    *,
    table_positions: Array | None = None,
    train: bool,
  ) -> TokenVectors:
    """Embeds a text; with `unimodal_depth`, also applies its first blocks.

    Args:
      tokens: [B, T] int32, or their vectors [B, T, D], made by `embed`.
      mask: [B, T], True where there is a token; None means everywhere.
      table_positions: [B, T], in the table of positions; None counts from 0.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, T, D]; pooled is the last real token.
    """
    if mask is None:
      mask = jnp.ones(tokens.shape[:2], bool)
    x = self._embed_at(tokens, table_positions)  # [B, T, D]
    x = self.embed_dropout(x, deterministic=not train)
    if not self.unimodal_depth:
      return TokenVectors(x, mask, ops.last_token(x, mask))
    bias = self._compute_bias(mask)
    visible = mnn.Visible.of_keys(mask, causal=True, bias=bias)
    x, _ = self.unimodal_blocks(x, None, visible, train=train)
    pooled = self.unimodal_norm(ops.last_token(x, mask))  # [B, D]
    return TokenVectors(x, mask, pooled)

  def compute_hidden_states(
    self,
    text: TokenVectors,
    context: TokenVectors | None = None,
    *,
    positions: Array | None = None,
    prefix_mask: Array | None = None,
    segments: Array | None = None,
    train: bool,
  ) -> Array:
    """Transforms an embedded text, with its context, to hidden states.

    Args:
      text: returned by `encode_text`, with `levels` for the first blocks.
      context: values [B, N, E], with cross-attention.
      positions: [B, T], or [B, T, A] with several axes, for rotary positions
        that don't count from 0.
      prefix_mask: [B, T], True for tokens that attend to each other in both
        directions, or numbers as in `mmjax.nn.Visible`; None for a causal text.
      segments: [B, T], as in `mmjax.nn.Visible`; None for one text a row.
      train: whether dropout is on.

    Returns:
      Features [B, T, D].
    """
    visible = mnn.Visible.of_keys(
      text.mask,
      causal=True,
      segments=segments,
      prefix_mask=None if prefix_mask is None else prefix_mask * text.mask,
      bias=self._compute_bias(text.mask, positions),
      positions=positions,
    )
    if context is not None:
      context = mnn.Context.of(context)
    x, _ = self.blocks(
      text.values, context, visible, added=text.levels, train=train
    )
    return self.last_norm(x) if self.final_norm else x

  def init_cache(
    self, batch: int, num_slots: int, num_context_tokens: int | None = None
  ) -> cache_lib.DecoderCache:
    """Makes an empty cache for B examples.

    Args:
      batch: B.
      num_slots: S: those of the prompt, padding included, and those to come.
      num_context_tokens: N, with cross-attention.

    Raises:
      ConfigError: for more slots than a table of positions has rows, and one
        for the last token, after which nothing is written.
    """
    if self.positions != 'none':
      cache_lib.check_slots(num_slots, self.max_length)
    block = self.block or {}
    return cache_lib.empty_cache(
      depth=self.depth,
      unimodal_depth=self.unimodal_depth,
      batch=batch,
      num_slots=num_slots,
      num_context_tokens=num_context_tokens,
      num_heads=block.get('num_kv_heads') or self.num_heads,
      head_dim=block.get('head_dim') or self.width // self.num_heads,
      dtype=self.dtype,
    )

  def compute_hidden_states_cached(
    self,
    tokens: Array,
    cache: cache_lib.DecoderCache,
    mask: Array | None = None,
    context: TokenVectors | None = None,
    *,
    positions: Array | None = None,
    prefix_mask: Array | None = None,
    levels: Array | None = None,
  ) -> tuple[Array, cache_lib.DecoderCache]:
    """Transforms new tokens to features, after those that the cache holds.

    Args:
      tokens: all tokens of a prompt (prefill) or the next one (decode step),
        [B, T] int32, or their vectors [B, T, D], made by `embed`.
      cache: returned by `init_cache` or the step before.
      mask: [B, T], True where there is a token; None means everywhere. Padding
        may stand anywhere in a prompt: it takes a slot but no position.
      context: with cross-attention, on the first call only; its keys and values
        are kept in the cache.
      positions: [B, T], or [B, T, A] with several axes, for rotary positions
        that don't simply count the tokens. Those of later tokens follow the
        largest.
      prefix_mask: [B, T], as in `mmjax.nn.Visible` (Raffel et al. 2020).
      levels: [n, B, T, D], added after the first blocks; None for nothing.

    Returns:
      Features [B, T, D], in a compiled program NaN where too few slots are
      left, and the cache after these tokens.

    Raises:
      ConfigError: for `positions` beside relative ones or a window, full cache.
    """
    mask = jnp.ones(tokens.shape[:2], bool) if mask is None else mask
    places, next_position = cache.extend_positions(mask, positions)
    x = cache.check_capacity(self._embed_at(tokens, places))  # [B, T, D]
    filled, allowed = cache.extend_mask(mask, prefix_mask)  # [B, S], [B, T, S]
    visible = self._find_visible(filled, allowed, positions, places)
    values, context_mask = None, cache.context_mask
    if context is not None:
      values, context_mask = context.values, jnp.asarray(context.mask)
    x, unimodal = self._decode_unimodal(x, visible, cache)
    x, blocks = self.blocks(
      x,
      None if context_mask is None else mnn.Context(values, context_mask),
      visible,
      mnn.Decoding(cache.blocks, cache.index),
      added=levels,
      train=False,
    )
    x = self.last_norm(x) if self.final_norm else x
    return x, cache_lib.DecoderCache(
      blocks=blocks,
      unimodal=unimodal,
      mask=filled,
      context_mask=context_mask,
      index=cache.index + tokens.shape[1],
      next_position=next_position,
    )

  def _decode_unimodal(
    self, x: Array, visible: mnn.Visible, cache: cache_lib.DecoderCache
  ) -> tuple[Array, Any]:
    if not self.unimodal_depth:
      return x, None
    decoding = mnn.Decoding(cache.unimodal, cache.index)
    return self.unimodal_blocks(x, None, visible, decoding, train=False)

  def _embed_at(self, tokens: Array, positions: Array | None) -> Array:
    """Embeds ids [B, T], or takes their vectors, with positions: [B, T, D]."""
    x = self.words(tokens, positions)
    return self.initial_norm(x) if self.embed_norm else x

  def _find_visible(
    self, filled: Array, allowed: Array, custom: Array | None, positions: Array
  ) -> mnn.Visible:
    """What new tokens at positions [B, T] may attend to in a cache."""
    bias = self._compute_bias(filled, custom, positions)
    visible = mnn.Visible(allowed, bias=bias, positions=positions)
    if self.window is None:
      return visible
    if custom is not None:
      raise ConfigError(
        'a window counts the tokens of a text, so a decoder with one takes no '
        'others while it decodes; pass no positions'
      )
    return visible.replace(key_positions=cache_lib.number_tokens(filled))

  def _compute_bias(
    self, mask: Array, custom: Array | None = None, queries: Array | None = None
  ) -> Array | None:
    """Computes the attention bias [B, H, T, S] of keys with a mask [B, S].

    `queries` [B, T] are positions; None means those of the keys. `custom`
    positions, which the caller passed, are refused.
    """
    if self.relative is None:
      return None
    if custom is not None:
      raise ConfigError(
        'relative positions count the tokens of a text, so a decoder with them '
        'takes no others; pass no positions'
      )
    keys = cache_lib.number_tokens(mask)  # [B, S]
    return self.relative_positions(keys if queries is None else queries, keys)
