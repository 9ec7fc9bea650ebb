"""The causal text decoder."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.decoders import cache as cache_lib
from mmjax.parallel import rules
from mmjax.types import Array, Tokens


class TextDecoder(nn.Module):
  """Predicts each next token from those before it and, if given, a context.

  Without cross-attention this is a language model such as GPT-2; with it, the
  decoder of Vaswani et al. 2017 or of an image captioner. With
  `unimodal_depth`, the decoupled decoder of CoCa (Yu et al. 2022, section 3.2):
  the first layers see only text, and what they make of a text serves as its
  encoding too.

  Attributes:
    vocab_size: V.
    width: D.
    depth: number of blocks L.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    max_length: longest sequence.
    cross_attention: whether blocks look at a context.
    unimodal_depth: number of blocks before them that don't.
    positions: 'learned', 'sincos' or 'none' (rotary ones are set in `block`).
    first_position: see `mmjax.nn.TokenEmbedding`.
    relative: settings of `mmjax.nn.RelativePositions` (T5: {}); None for none.
    embed_norm: whether the embedding is normalised (BERT).
    tied: whether the output matrix is the embedding's transpose.
    embed_scale: the embedding is multiplied by it (Gemma: sqrt(D)).
    final_norm: whether tokens are normalised before the output matrix.
    head_activation: of a dense layer with a norm after it, before the output
      matrix (BERT's head: 'gelu'); None for no such layer.
    head_scale: features are multiplied by it before the output matrix (T5 with
      a tied one: D**-0.5).
    head_bias: whether the logits have a bias.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tokens.
    drop_path: see `mmjax.nn.Stack`.
    scan: see `mmjax.nn.Stack`.
    remat: see `mmjax.nn.Stack`.
    dtype: of the computation; parameters and logits are float32.
  """

  vocab_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
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
  block: Mapping[str, Any] | None = None
  dropout: float = 0.0
  drop_path: float = 0.0
  scan: bool = True
  remat: str = 'none'
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

    def stack(depth: int, cross_attention: bool) -> mnn.Stack:
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
      )

    def norm() -> nn.Module:
      return mnn.make_norm(
        block.get('norm', 'layernorm'),
        block.get('norm_epsilon', 1e-6),
        self.dtype,
      )

    if self.relative is not None:
      self.relative_positions = mnn.RelativePositions(
        self.num_heads, both_ways=False, **self.relative
      )
    if self.embed_norm:
      self.initial_norm = norm()
    if self.unimodal_depth:
      self.unimodal_blocks = stack(self.unimodal_depth, False)
      self.unimodal_norm = norm()
    self.blocks = stack(self.depth, self.cross_attention)
    if self.final_norm:
      self.last_norm = norm()
    if self.head_activation is not None:
      self.head_dense = nn.Dense(
        self.width,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), ('embed', None)
        ),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        dtype=self.dtype,
      )
      self.head_norm = norm()
    if self.head_bias:
      self.logit_bias = self.param(
        'logit_bias',
        nn.with_logical_partitioning(nn.initializers.zeros, ('vocab',)),
        (self.vocab_size,),
        jnp.float32,
      )
    if not self.tied:
      self.head = nn.Dense(
        self.vocab_size,
        use_bias=False,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), ('embed', 'vocab')
        ),
        dtype=self.dtype,
      )

  def __call__(
    self,
    tokens: Array,
    mask: Array | None = None,
    context: Tokens | None = None,
    *,
    train: bool,
  ) -> Array:
    """Teacher forcing: logits of the token after each given one.

    Args:
      tokens: [B, T] int32.
      mask: [B, T], True where there is a token; None means everywhere. Padding
        comes last, as positions count from the first token.
      context: values [B, N, E], with cross-attention.
      train: whether dropout is on.

    Returns:
      Logits [B, T, V] float32.

    Raises:
      ValueError: if T is more than `max_length`, or the context is missing, or
        given without cross-attention.
    """
    text = self.encode(tokens, mask, train=train)
    return self.logits(self.attend(text, context, train=train))

  def embed(self, tokens: Array, positions: Array | None = None) -> Array:
    """What the blocks read of ids [B, T], or of vectors of `look_up`."""
    x = self.words(tokens, positions)
    return self.initial_norm(x) if self.embed_norm else x

  def look_up(self, tokens: Array) -> Array:
    """Word vectors [B, T, D] of ids [B, T], to be read like them."""
    return self.words.look_up(tokens)

  def encode(
    self,
    tokens: Array,
    mask: Array | None = None,
    *,
    positions: Array | None = None,
    train: bool,
  ) -> Tokens:
    """Reads a text without its context, as far as the unimodal blocks go.

    Args:
      tokens: [B, T] int32, or their vectors, see `look_up`.
      mask: [B, T], True where there is a token; None means everywhere.
      positions: [B, T], in the table of positions; None counts from 0.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, T, D]; pooled is the last real token, normalised.
    """
    if mask is None:
      mask = jnp.ones(tokens.shape[:2], bool)
    x = self.embed(tokens, positions)
    x = self.embed_dropout(x, deterministic=not train)
    if not self.unimodal_depth:
      return Tokens(x, mask, ops.last_token(x, mask))
    x, _ = self.unimodal_blocks(
      x,
      mask=mask[:, None],
      causal=True,
      offsets=self._offsets(mask),
      train=train,
    )
    pooled = self.unimodal_norm(ops.last_token(x, mask))
    return Tokens(x, mask, pooled)

  def attend(
    self,
    text: Tokens,
    context: Tokens | None = None,
    *,
    positions: Array | None = None,
    prefix: Array | None = None,
    train: bool,
  ) -> Array:
    """Goes on from `encode` with the context.

    Args:
      text: of `encode`.
      context: with cross-attention.
      positions: see `step`.
      prefix: see `step`.
      train: whether dropout is on.

    Returns:
      Features [B, T, D].
    """
    allowed = text.mask[:, None]
    if prefix is not None:
      causal = allowed & ops.causal_mask(text.mask.shape[1])
      allowed = causal | cache_lib.among(prefix & text.mask)
    x, _ = self.blocks(
      text.values,
      None if context is None else context.values,
      mask=allowed,
      causal=prefix is None,
      context_mask=None if context is None else context.mask[:, None],
      positions=positions,
      offsets=self._offsets(text.mask, positions),
      train=train,
    )
    return self.last_norm(x) if self.final_norm else x

  def logits(self, x: Array) -> Array:
    """Logits [B, T, V] float32 of features [B, T, D]."""
    if self.head_activation is not None:
      x = mnn.activation(self.head_activation)(self.head_dense(x))
      x = self.head_norm(x)
    if self.head_scale != 1:
      x = x * jnp.asarray(self.head_scale, x.dtype)
    logits = self.words.attend(x) if self.tied else self.head(x)
    logits = rules.constrain(logits, 'batch', 'length', 'vocab')
    logits = logits.astype(jnp.float32)
    return logits + self.logit_bias[None, None] if self.head_bias else logits

  def init_cache(
    self, batch: int, length: int, context_length: int | None = None
  ) -> cache_lib.DecoderCache:
    """Makes an empty cache for `length` tokens.

    Args:
      batch: B.
      length: slots S: those of the prompt, padding included, and those to come.
      context_length: N, with cross-attention.
    """
    block = self.block or {}
    heads = block.get('num_kv_heads') or self.num_heads
    head_dim = block.get('head_dim') or self.width // self.num_heads
    context_mask = None
    if context_length is not None:
      context_mask = jnp.zeros((batch, context_length), bool)
    empty = functools.partial(
      mnn.empty_cache,
      batch=batch,
      length=length,
      num_heads=heads,
      head_dim=head_dim,
      dtype=self.dtype,
    )
    unimodal = None
    if self.unimodal_depth:
      unimodal = empty(depth=self.unimodal_depth)
    return cache_lib.DecoderCache(
      blocks=empty(depth=self.depth, context_length=context_length),
      unimodal=unimodal,
      mask=jnp.zeros((batch, length), bool),
      context_mask=context_mask,
      index=jnp.zeros((), jnp.int32),
      length=jnp.zeros((batch,), jnp.int32),
    )

  def step(
    self,
    tokens: Array,
    cache: cache_lib.DecoderCache,
    mask: Array | None = None,
    context: Tokens | None = None,
    *,
    positions: Array | None = None,
    prefix: Array | None = None,
  ) -> tuple[Array, cache_lib.DecoderCache]:
    """Reads T more tokens: the prompt on the first call, then one at a time.

    Args:
      tokens: [B, T] int32, or their vectors, see `look_up`.
      cache: from `init_cache` or the step before.
      mask: [B, T], True where there is a token; None means everywhere. Padding
        may stand anywhere in a prompt: it takes a slot but no position.
      context: with cross-attention, on the first call only; its keys and values
        are kept in the cache.
      positions: [B, T], or [B, T, A] with several axes, of rotary positions
        that don't simply count the tokens. Later tokens go on from the largest.
      prefix: [B, T], True for the tokens of a prompt that see each other in
        both directions (a prefix language model, Raffel et al. 2020).

    Returns:
      Logits [B, T, V] float32 and the cache after these tokens.
    """
    x, cache = self.advance(
      tokens, cache, mask, context, positions=positions, prefix=prefix
    )
    return self.logits(x), cache

  def advance(
    self,
    tokens: Array,
    cache: cache_lib.DecoderCache,
    mask: Array | None = None,
    context: Tokens | None = None,
    *,
    positions: Array | None = None,
    prefix: Array | None = None,
  ) -> tuple[Array, cache_lib.DecoderCache]:
    """Reads tokens as `step` does, and gives their features [B, T, D]."""
    batch, steps = tokens.shape[:2]
    given = positions
    if mask is None:
      mask = jnp.ones((batch, steps), bool)
    length = cache.length + mask.sum(axis=1, dtype=jnp.int32)
    if positions is None:
      before = cache.length[:, None]
      positions = before + jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    else:
      last = positions.reshape(batch, steps, -1).max(axis=2)
      length = jnp.max(jnp.where(mask, last + 1, 0), axis=1)
    filled, allowed = cache.visible(mask, prefix)
    context_mask = cache.context_mask if context is None else context.mask
    shared = {
      'mask': allowed,
      'positions': positions,
      'offsets': self._offsets(filled, given, positions),
      'index': cache.index,
      'train': False,
    }
    x, unimodal = self.embed(tokens, positions), None
    if self.unimodal_depth:
      x, unimodal = self.unimodal_blocks(x, cache=cache.unimodal, **shared)
    x, blocks = self.blocks(
      x,
      None if context is None else context.values,
      context_mask=None if context_mask is None else context_mask[:, None],
      cache=cache.blocks,
      **shared,
    )
    x = self.last_norm(x) if self.final_norm else x
    return x, cache_lib.DecoderCache(
      blocks=blocks,
      unimodal=unimodal,
      mask=filled,
      context_mask=context_mask,
      index=cache.index + steps,
      length=length,
    )

  def _offsets(
    self, mask: Array, given: Array | None = None, queries: Array | None = None
  ) -> Array | None:
    """Relative positions [B, H, T, S], where `mask` [B, S] has real tokens.

    `queries` [B, T] say which of them ask, None all; `given` are the caller's.
    """
    if self.relative is None:
      return None
    if given is not None:
      raise ValueError(
        'relative positions count the tokens of a text, so a decoder with them '
        'takes no others; pass no positions'
      )
    keys = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    return self.relative_positions(keys if queries is None else queries, keys)
