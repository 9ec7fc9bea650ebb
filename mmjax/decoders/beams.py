"""Writing text with a decoder by beam search, as a compiled loop."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.decoders import cache as cache_lib
from mmjax.decoders import constraints as constraints_lib
from mmjax.decoders import generation
from mmjax.errors import ConfigError
from mmjax.types import Array

# When the search of an example ends; None is our own rule.
EarlyStopping = bool | Literal['never'] | None


@dataclasses.dataclass(frozen=True)
class _Rule:
  """How texts are scored, and when the search of an example ends.

  Attributes:
    length: most tokens of a text T.
    length_penalty: exponent of the penalty.
    early_stopping: as in `beam_search`.
  """

  length: int
  length_penalty: float
  early_stopping: EarlyStopping

  def compute_penalty(self, tokens: Array | int) -> Array | float:
    """What the log-probability of a text of so many tokens is divided by."""
    if self.early_stopping is None:
      return ((5.0 + tokens) / 6.0) ** self.length_penalty
    return jnp.asarray(tokens, jnp.float32) ** self.length_penalty

  def keeps_open(self, state: '_BeamState') -> Array:
    """Whether a live text may still come among the ended ones, [B]."""
    full = jnp.all(jnp.isfinite(state.best_score), axis=1)
    if self.early_stopping is None:
      return ~full
    if self.early_stopping is True:
      return state.open & ~full
    grows = self.early_stopping == 'never' and self.length_penalty > 0
    tokens = self.length if grows else state.index
    best = jnp.max(state.score, axis=1) / self.compute_penalty(tokens)
    return state.open & (~full | (best > jnp.min(state.best_score, axis=1)))


@flax.struct.dataclass
class _BeamState:
  index: Array  # []
  logits: Array  # [B * M, V]
  cache: cache_lib.DecoderCache  # batch B * M
  tokens: Array  # [B, M, T] texts being written
  score: Array  # [B, M] their log-probabilities, -inf for none
  best_tokens: Array  # [B, M, T] ended texts
  best_score: Array  # [B, M] their scores by length, -inf for none
  open: Array  # [B] whether texts may still come among the ended ones


def beam_search(
  step: generation.StepFn,
  logits: Array,
  cache: cache_lib.DecoderCache,
  *,
  length: int,
  beam_size: int,
  length_penalty: float = 0.6,
  early_stopping: EarlyStopping = None,
  eos_id: int | Sequence[int] = 2,
  pad_id: int = 0,
  prompt: tuple[Array, Array] | None = None,
  constraints: constraints_lib.Constraints = constraints_lib.NONE,
) -> generation.Generated:
  """Keeps the `beam_size` likeliest texts while writing.

  Scores are log p / ((5 + t) / 6)^length_penalty with t tokens, the end of
  text included (Wu et al. 2016, equation 14, without the coverage term). An
  example is over when `beam_size` texts have ended. A text that has not ended
  after `length` tokens counts as it stands.

  With `early_stopping` the search is that of transformers: scores are log p /
  t^length_penalty, and an example is over when `beam_size` texts have ended
  (True), or also when none of the live texts would be better than the worst of
  those at its present length (False), or at any length ('never').

  Args:
    step: decodes one token of each example, see `generation`.
    logits: [B, V], of the first token to write.
    cache: after the prompt, with room for `length` tokens more.
    length: most tokens to write T.
    beam_size: M; 1 gives the tokens of greedy decoding.
    length_penalty: 0 prefers short texts, 1 the best mean per token.
    early_stopping: when an example is over in the search of transformers; None
      for that of Wu et al.
    eos_id: ends a text; where several do, all of them.
    pad_id: fills up after the end.
    prompt: ids [B, P] of what stands before the text and their mask [B, P],
      which `constraints` count and compare; None for nothing.
    constraints: what may be written; they change log-probabilities.

  Returns:
    Generated, [B, T]: the best text of each example.

  Raises:
    ConfigError: if `beam_size` is less than 1.
  """
  if beam_size < 1:
    raise ConfigError(f'beam_size must be at least 1, got {beam_size}')
  (batch, vocab), beams = logits.shape, beam_size
  start = jnp.repeat(jnp.arange(batch), beams)  # [B * M], 0 0 1 1 ...
  nothing = jnp.full((batch, beams, length), pad_id, jnp.int32)
  before = [array[start] for array in generation.align_prompt(prompt, batch)]
  rule = _Rule(length, length_penalty, early_stopping)

  def cond(state: _BeamState):
    return (state.index < length) & jnp.any(state.open)

  def body(state: _BeamState):
    history = constraints_lib.History.after(
      *before, state.tokens.reshape(-1, length), state.index
    )
    log_probs = constraints.apply(
      jax.nn.log_softmax(state.logits), history, length=length, eos_id=eos_id
    ).reshape(batch, beams, vocab)
    state, token, parent = _extend(state, log_probs, eos_id, rule)
    rows = (jnp.arange(batch)[:, None] * beams + parent).reshape(-1)  # [B * M]
    logits, cache = step(
      token.reshape(-1, 1),
      _take_rows(state.cache, rows),
      jnp.ones((batch * beams, 1), bool),
    )
    return state.replace(logits=logits[:, -1], cache=cache)

  first = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
  end = jax.lax.while_loop(
    cond,
    body,
    _BeamState(
      index=jnp.zeros((), jnp.int32),
      logits=logits[start],
      cache=_take_rows(cache, start),
      tokens=nothing,
      score=jnp.broadcast_to(first[None], (batch, beams)),
      best_tokens=nothing,
      best_score=jnp.full((batch, beams), -jnp.inf),
      open=jnp.ones((batch,), bool),
    ),
  )
  return _select_best(end, eos_id, pad_id, rule)


def _extend(
  state: _BeamState,
  log_probs: Array,
  eos_id: int | Sequence[int],
  rule: _Rule,
) -> tuple[_BeamState, Array, Array]:
  """Extends texts by one token, and keeps the best ended and live ones.

  One step of M = 2 beams over V = 3 tokens, of which 2 ends a text:

    score    -1  -3            log-probabilities of the beams `5` and `6`
    totals   -2  -4  -1.5      `5` with token 0, 1 or 2
             -6  -3.1  -7      `6` with token 0, 1 or 2
    choice    2   0   4   1    the W = 4 best of the six, as beam * V + token
    parent    0   0   1   0
    token     2   0   1   1    the first, `5 2`, has ended: it goes to `best`
    live      1   2            the M best of the others: `5 0` and `6 1`

  Args:
    state: before the step.
    log_probs: [B, M, V], of the next token.
    eos_id: ends a text; where several do, all of them.
    rule: of the search.

  Returns:
    The state with the new texts, but the logits and cache of the step before;
    the last token of each live text [B, M]; and the beam it extends [B, M].
  """
  batch, beams, vocab = log_probs.shape
  # Each beam ends in as many ways as there are ends; M candidates stay live.
  ends = jnp.size(jnp.asarray(eos_id))
  wide = min(max(2, 1 + ends) * beams, beams * vocab)
  totals = (state.score[:, :, None] + log_probs).reshape(batch, -1)  # [B, M V]
  score, choice = jax.lax.top_k(totals, wide)  # [B, W]
  parent, token = choice // vocab, (choice % vocab).astype(jnp.int32)
  tokens = jnp.take_along_axis(state.tokens, parent[:, :, None], axis=1)
  tokens = tokens.at[:, :, state.index].set(token)  # [B, W, T]
  ended = generation.is_end(token, eos_id)  # [B, W]
  # An end counts only among the first M candidates, while the search is open.
  counts = ended
  if rule.early_stopping is not None:  # So does a text of full length.
    counts = ended | (state.index + 1 == rule.length)
  counts &= (jnp.arange(wide) < beams)[None] & state.open[:, None]
  penalty = rule.compute_penalty(state.index + 1)
  ended_score = jnp.where(counts, score / penalty, -jnp.inf)
  scores = jnp.concatenate([state.best_score, ended_score], axis=1)
  best_score, kept = jax.lax.top_k(scores, beams)  # [B, M] of [B, M + W]
  everything = jnp.concatenate([state.best_tokens, tokens], axis=1)
  best = jnp.take_along_axis(everything, kept[:, :, None], axis=1)  # [B, M, T]
  score, live = jax.lax.top_k(jnp.where(ended, -jnp.inf, score), beams)
  token = jnp.take_along_axis(token, live, axis=1)  # [B, M]
  parent = jnp.take_along_axis(parent, live, axis=1)  # [B, M]
  state = state.replace(
    index=state.index + 1,
    tokens=jnp.take_along_axis(tokens, live[:, :, None], axis=1),
    score=score,
    best_tokens=best,
    best_score=best_score,
  )
  return state.replace(open=rule.keeps_open(state)), token, parent


def _select_best(
  end: _BeamState,
  eos_id: int | Sequence[int],
  pad_id: int,
  rule: _Rule,
) -> generation.Generated:
  """Selects the best text of each example, ended or as long as it may be."""
  # What is still live after the loop has T tokens; in the search of
  # transformers it is among the ended.
  counts = end.open & (rule.early_stopping is None)
  unfinished = jnp.where(counts[:, None], end.score, -jnp.inf)
  unfinished = unfinished / rule.compute_penalty(rule.length)
  scores = jnp.concatenate([end.best_score, unfinished], axis=1)  # [B, 2M]
  tokens = jnp.concatenate([end.best_tokens, end.tokens], axis=1)
  best = jnp.argmax(scores, axis=1)[:, None]  # [B, 1]
  tokens = jnp.take_along_axis(tokens, best[:, :, None], axis=1)[:, 0]  # [B, T]
  ends = generation.is_end(tokens, eos_id)
  mask = jnp.cumsum(ends, axis=1) - ends == 0
  score = jnp.take_along_axis(scores, best, axis=1)[:, 0]
  return generation.Generated(jnp.where(mask, tokens, pad_id), mask, score)


def _take_rows(
  cache: cache_lib.DecoderCache, rows: Array
) -> cache_lib.DecoderCache:
  """Picks examples: axis 1 of the blocks, axis 0 of the rest."""
  rest = jax.tree.map(
    lambda leaf: leaf[rows], (cache.mask, cache.context_mask, cache.length)
  )
  return cache.replace(
    blocks=jax.tree.map(lambda leaf: leaf[:, rows], cache.blocks),
    unimodal=jax.tree.map(lambda leaf: leaf[:, rows], cache.unimodal),
    mask=rest[0],
    context_mask=rest[1],
    length=rest[2],
  )
