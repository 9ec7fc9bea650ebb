"""What every model that writes text has in common."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import decoders, ops
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Array, Batch, TokenVectors

# Bytes of the decoders whose layers are unrolled for a loop of decode steps: of
# smaller ones copies take no time, of larger ones too much memory.
_UNROLLED = range(2**25, 2**30)


class TextGenerator(nn.Module):
  """Adds `generate` to a model with a `decoder`.

  `generate`, which evaluators and published models apply, calls `prefill`
  once, and then `decode_step` in a compiled loop of `mmjax.decoders`, until all
  texts have ended. The `prefill` here, for encoders with a decoder that attends
  to their outputs, calls `encode_inputs`.

  A subclass has `decoder`, the `eos_id` that ends a text, the `pad_id` that
  fills up after it, and an `encode_inputs` for each of its `text_kinds`. One
  with more than ids in the prompt of its decoder, such as an image's vectors,
  has a `prefill` of its own.

  Attributes:
    text_kinds: kinds of text that it writes: 'caption', 'answer', 'transcript',
      'continue' (what follows a prompt), 'write' (of any fields).
  """

  text_kinds: ClassVar[tuple[str, ...]] = ()

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors | None, Array, Array]:
    """Encodes what texts attend to, and finds the ids that they begin with.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      text_kind: one of `text_kinds`.

    Returns:
      The context [B, N, E] for cross-attention, None for none; the ids [B, P]
      that the decoder gets before it writes, and their mask [B, P].
    """
    raise ConfigError(f'{type(self).__name__} writes nothing')

  def prefill(
    self, batch: Batch, text_kind: str, max_new_tokens: int
  ) -> tuple[Array, decoders.DecoderCache, tuple[Array, Array]]:
    """Fills a cache with the prompt, with room for what is written.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      text_kind: one of `text_kinds`.
      max_new_tokens: most tokens to write.

    Returns:
      Logits [B, V] of the first token to write, the cache, and the prompt's
      ids [B, P] and mask [B, P].

    Raises:
      ConfigError: for more tokens than the decoder has positions for.
    """
    context, prompt, mask = self.encode_inputs(batch, text_kind)
    self.check_positions(prompt.shape[1], max_new_tokens)
    cache = self.decoder.init_cache(
      prompt.shape[0],
      prompt.shape[1] + max_new_tokens,
      None if context is None else context.mask.shape[1],
    )
    # [B, P, D]
    x, cache = self.decoder.compute_hidden_states_cached(
      prompt, cache, mask, context
    )
    return self.next_logits(x, mask), cache, (prompt, mask)

  def next_logits(self, x: Array, mask: Array) -> Array:
    """Logits [B, V] of the token after a prompt.

    Args:
      x: features [B, P, D] of the prompt.
      mask: [B, P], True on its real tokens; what follows the last one counts.
    """
    return self.decoder.compute_logits(ops.last_token(x, mask)[:, None])[:, 0]

  def check_positions(self, prompt_length: int, max_new_tokens: int) -> None:
    """Refuses more tokens than the decoder's table of positions has.

    Rotary positions (`positions='none'`) have no table, and no such limit
    unless they are dynamic.
    """
    rope = (self.decoder.block or {}).get('rope') or {}
    dynamic = (rope.get('scaling') or {}).get('kind') == 'dynamic'
    limited = dynamic or self.decoder.positions != 'none'
    # The loop decodes the last token too, but nothing uses the result.
    reach = prompt_length + max_new_tokens - 1
    if limited and reach > self.decoder.max_length:
      raise ConfigError(
        f'writing {max_new_tokens} tokens after {prompt_length} takes '
        f'{reach} positions, but the decoder has a max_length of '
        f'{self.decoder.max_length}; write fewer tokens: '
        f'max_new_tokens={max(1, self.decoder.max_length - prompt_length + 1)}'
      )

  def decode_step(
    self, tokens: Array, cache: decoders.DecoderCache, mask: Array
  ) -> tuple[Array, decoders.DecoderCache]:
    """Decodes tokens [B, T] after a prompt: logits [B, T, V] and cache."""
    return self.decoder.decode_step(tokens, cache, mask)

  def generate(
    self,
    batch: Batch,
    *,
    text_kind: str,
    max_new_tokens: int,
    beam_size: int = 1,
    length_penalty: float = 0.6,
    scoring: decoders.Scoring = 'wu',
    early_stopping: decoders.EarlyStopping = False,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: Array | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
    on_tokens: decoders.OnTokens | None = None,
    **logit_processors: Any,
  ) -> decoders.Generated:
    """Writes a text of one kind; call it by `apply(..., method=...)`.

    Args:
      batch: arrays by the keys of `mmjax.types`, those that `prefill` reads.
      text_kind: one of `text_kinds`.
      max_new_tokens: most tokens to write.
      beam_size: more than 1 for beam search.
      length_penalty: length penalty of beam search.
      scoring: scores of beam search, as in `decoders.beam_search`.
      early_stopping: early stopping of beam search, as in
        `decoders.beam_search`.
      temperature: 0 for greedy decoding.
      top_k: number of likeliest tokens to sample from; 0 for all.
      top_p: least probability that the tokens to sample from have together.
      rng: a key, needed unless `temperature` is 0.
      eos_id: ends a text; where several do, all of them; None: the model's.
      pad_id: fills up after the end; None: the model's.
      on_tokens: called with each token, and may end texts, as in
        `decoders.sample`.
      **logit_processors: fields of `mmjax.decoders.LogitProcessors`, such as
        `repetition_penalty`, `no_repeat_ngram`, `min_new_tokens` and
        `suppress`.

    Returns:
      Generated, [B, max_new_tokens].

    Raises:
      ConfigError: for an unknown kind of text, sampling settings without a
        temperature or with beam search, or more tokens than the decoder has
        positions for.
    """
    if text_kind not in self.text_kinds:
      raise ConfigError(
        f'kind of text {text_kind!r} is unknown; use one of {self.text_kinds}'
      )
    if self.decoder is None:
      raise ConfigError('the model writes nothing: set model.decoder')
    if beam_size < 1:
      raise ConfigError(f'beam_size must be at least 1, got {beam_size}')
    if beam_size > 1 and on_tokens is not None:
      raise ConfigError(
        f'beam_size={beam_size} writes no text before its end, so none can be '
        'shown on the way; use beam_size=1'
      )
    if beam_size > 1 and temperature != 0:
      raise ConfigError(
        f'beam_size {beam_size} and temperature {temperature} exclude each '
        f'other; use beam_size=1 to sample or temperature=0 for beam search'
      )
    if temperature == 0 and (top_k or top_p < 1):
      raise ConfigError(
        f'top_k={top_k} and top_p={top_p} are for sampling; give temperature '
        'too, such as 1.0'
      )
    logits, cache, prompt = self.prefill(batch, text_kind, max_new_tokens)
    # Inside a compiled loop a module must not touch its own variables.
    module, variables = _unroll(*self.unbind())

    def step(tokens: Array, cache: decoders.DecoderCache, mask: Array):
      return module.apply(variables, tokens, cache, mask, method='decode_step')

    shared = {
      'max_new_tokens': max_new_tokens,
      'eos_id': self.eos_id if eos_id is None else eos_id,
      'pad_id': self.pad_id if pad_id is None else pad_id,
      'prompt': prompt,
      'logit_processors': decoders.LogitProcessors(**logit_processors),
    }
    if beam_size > 1:
      return decoders.beam_search(
        step,
        logits,
        cache,
        beam_size=beam_size,
        length_penalty=length_penalty,
        scoring=scoring,
        early_stopping=early_stopping,
        **shared,
      )
    return decoders.sample(
      step,
      logits,
      cache,
      rng=rng,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      on_tokens=on_tokens,
      **shared,
    )

  def score_options(
    self, batch: Batch, *, text_kind: str, options: Array, options_mask: Array
  ) -> Array:
    """Log-probabilities [B, n] of n texts after each prompt.

    The prompt is computed once for all of them.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      text_kind: one of `text_kinds`.
      options: ids [B, n, T] of the texts.
      options_mask: [B, n, T], True on their tokens; padding comes last.
    """
    batch_size, number, length = options.shape
    first, cache, _ = self.prefill(batch, text_kind, length)  # [B, V]
    rows = jnp.repeat(jnp.arange(batch_size), number)  # [B * n], 0 0 1 1 ...
    tokens, mask = (
      array.reshape(-1, length) for array in (options, options_mask)
    )
    after, _ = self.decode_step(
      tokens, decoders.take_rows(cache, rows), mask
    )  # [B * n, T, V]
    logits = jnp.concatenate([first[rows][:, None], after[:, :-1]], axis=1)
    log_probs = jnp.take_along_axis(
      jax.nn.log_softmax(logits), tokens[:, :, None], axis=2
    )[:, :, 0]
    scores = jnp.where(mask, log_probs, 0.0).sum(axis=1)
    return scores.reshape(batch_size, number)


def _unroll(module: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
  """The model whose decoder has its layers one after the other, on CPUs.

  In a scan over layers, XLA copies each layer's weights before its products, in
  every step. Unrolled, they are copied once, before the loop, which takes as
  much memory again.

  Args:
    module: the unbound model.
    variables: its variables.
  """
  if mesh_lib.platform() != 'cpu' or not getattr(module.decoder, 'scan', False):
    return module, variables
  params = variables['params']
  leaves = jax.tree.leaves(params['decoder'])
  if sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) not in _UNROLLED:
    return module, variables
  unrolled = {**params, 'decoder': mnn.unstack_layers(params['decoder'])}
  decoder = module.decoder.clone(scan=False)
  return module.clone(decoder=decoder), {**variables, 'params': unrolled}


def read_decoder_prompt(
  batch: Batch, size: int, bos_id: int
) -> tuple[Array, Array]:
  """The tokens that texts begin with: ids [B, P], and their mask [B, P].

  These are the batch's `prompt`, or `bos_id` alone without one.
  """
  if 'decoder_prompt' in batch:
    return batch['decoder_prompt'], batch['decoder_prompt_mask']
  tokens = jnp.full((size, 1), bos_id, jnp.int32)
  return tokens, jnp.ones(tokens.shape, bool)
