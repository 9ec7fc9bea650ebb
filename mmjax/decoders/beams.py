"""Text generation by beam search, as a compiled loop."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.decoders import cache as cache_lib
from mmjax.decoders import logit_processors as processors_lib
from mmjax.decoders import sampling
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array

# How texts of different lengths are compared: as Wu et al. 2016, or as
# transformers does it.
Scoring = Literal['wu', 'transformers']
# When the search of an example ends in that of transformers.
EarlyStopping = bool | Literal['never']


@dataclasses.dataclass(frozen=True)
class _SearchRule:
  """How texts are scored, and when the search of an example ends.

  Attributes:
    max_new_tokens: most tokens of a text T.
    length_penalty: exponent of the penalty.
    scoring: scoring, as in `beam_search`.
    early_stopping: early stopping, as in `beam_search`.
  """

  max_new_tokens: int
  length_penalty: float
  scoring: Scoring
  early_stopping: EarlyStopping

  def __post_init__(self):
    check_choice(self.scoring, get_args(Scoring), 'scoring')
    if self.scoring == 'wu' and self.early_stopping:
      raise ConfigError(
        f'early_stopping={self.early_stopping!r} is for '
        "scoring='transformers'; set that, or early_stopping=False"
      )

  @property
  def follows_transformers(self) -> bool:
    """Whether scores and ends are those of transformers, not Wu et al.'s."""
    return self.scoring == 'transformers'

  def compute_penalty(self, tokens: Array | int) -> Array | float:
    """What the log-probability of a text of so many tokens is divided by."""
    if not self.follows_transformers:
      return ((5.0 + tokens) / 6.0) ** self.length_penalty
    return jnp.asarray(tokens, jnp.float32) ** self.length_penalty

  def continues(self, state: '_BeamState') -> Array:
    """Whether an example's search continues, [B].

    It does while a live text may still come among the finished ones.
    """
    full = jnp.all(jnp.isfinite(state.finished_score), axis=1)
    if not self.follows_transformers:
      return ~full
    if self.early_stopping is True:
      return state.searching & ~full
    grows = self.early_stopping == 'never' and self.length_penalty > 0
    tokens = self.max_new_tokens if grows else state.index
    best = jnp.max(state.score, axis=1) / self.compute_penalty(tokens)
    return state.searching & (
      ~full | (best > jnp.min(state.finished_score, axis=1))
    )


@flax.struct.dataclass
class _BeamState:
  index: Array  # []
  logits: Array  # [B * M, V]
  cache: cache_lib.DecoderCache  # batch B * M
  tokens: Array  # [B, M, T] texts being written
  score: Array  # [B, M] their log-probabilities, -inf for none
  finished_tokens: Array  # [B, M, T] texts that have ended
  finished_score: Array  # [B, M] their scores by length, -inf for none
  searching: Array  # [B] whether texts may still come among the finished ones


def beam_search(
  step: sampling.StepFn,
  logits: Array,
  cache: cache_lib.DecoderCache,
  *,
  max_new_tokens: int,
  beam_size: int,
  length_penalty: float = 0.6,
  scoring: Scoring = 'wu',
  early_stopping: EarlyStopping = False,
  eos_id: int | Sequence[int] = 2,
  pad_id: int = 0,
  prompt: tuple[Array, Array] | None = None,
  logit_processors: processors_lib.LogitProcessors = processors_lib.NONE,
) -> sampling.Generated:
  """Keeps the `beam_size` likeliest texts while writing.

  Scores are log p / ((5 + t) / 6)^length_penalty with t tokens, the end of
  text included (Wu et al. 2016, equation 14, without the coverage term). An
  example is over when `beam_size` texts have ended. A text that has not ended
  after `max_new_tokens` tokens counts as it stands.

  With `scoring='transformers'`, scores are log p / t^length_penalty, and an
  example is over when `beam_size` texts have ended (`early_stopping=True`), or
  when besides none of the live texts would be better than the worst of those at
  its present length (False), or at any length ('never').

  Args:
    step: decodes one token of each example, as of `mmjax.decoders.sample`.
    logits: [B, V], of the first token to write.
    cache: after the prompt, with room for `max_new_tokens` tokens more.
    max_new_tokens: most tokens to write T.
    beam_size: M; 1 gives the tokens of greedy decoding.
    length_penalty: 0 prefers short texts, 1 the best mean per token.
    scoring: 'wu' or 'transformers', which also says when an example is over.
    early_stopping: when an example is over with `scoring='transformers'`.
    eos_id: ends a text; where several do, all of them.
    pad_id: fills up after the end.
    prompt: ids [B, P] of what stands before the text and their mask [B, P],
      which `logit_processors` count and compare; None for nothing.
    logit_processors: what may be written; they change log-probabilities.

  Returns:
    Generated, [B, T]: the best text of each example.

  Raises:
    ConfigError: if `beam_size` is less than 1, `early_stopping` is set with
      Wu's scoring, or the cache has too few slots.
  """
  if beam_size < 1:
    raise ConfigError(f'beam_size must be at least 1, got {beam_size}')
  cache.check_length(max_new_tokens)
  (batch, vocab), beams = logits.shape, beam_size
  example = jnp.repeat(jnp.arange(batch), beams)  # [B * M], 0 0 1 1 ...
  no_tokens = jnp.full((batch, beams, max_new_tokens), pad_id, jnp.int32)
  prompt_of_beam = [
    array[example] for array in sampling.align_prompt(prompt, batch)
  ]
  rule = _SearchRule(max_new_tokens, length_penalty, scoring, early_stopping)

  def cond(state: _BeamState):
    return (state.index < max_new_tokens) & jnp.any(state.searching)

  def body(state: _BeamState):
    history = processors_lib.History.after(
      *prompt_of_beam, state.tokens.reshape(-1, max_new_tokens), state.index
    )
    log_probs = logit_processors.apply(
      jax.nn.log_softmax(state.logits),
      history,
      max_new_tokens=max_new_tokens,
      eos_id=eos_id,
    ).reshape(batch, beams, vocab)
    state, token, parent = _extend(state, log_probs, eos_id, rule)
    rows = (jnp.arange(batch)[:, None] * beams + parent).reshape(-1)  # [B * M]
    logits, cache = step(
      token.reshape(-1, 1),
      cache_lib.take_rows(state.cache, rows),
      jnp.ones((batch * beams, 1), bool),
    )
    return state.replace(logits=logits[:, -1], cache=cache)

  # All beams start from the same prompt, so only the first one counts.
  first_score = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)  # [M]
  end = jax.lax.while_loop(
    cond,
    body,
    _BeamState(
      index=jnp.zeros((), jnp.int32),
      logits=logits[example],
      cache=cache_lib.take_rows(cache, example),
      tokens=no_tokens,
      score=jnp.broadcast_to(first_score[None], (batch, beams)),
      finished_tokens=no_tokens,
      finished_score=jnp.full((batch, beams), -jnp.inf),
      searching=jnp.ones((batch,), bool),
    ),
  )
  return _select_best(end, eos_id, pad_id, rule)


def _extend(
  state: _BeamState,
  log_probs: Array,
  eos_id: int | Sequence[int],
  rule: _SearchRule,
) -> tuple[_BeamState, Array, Array]:
  """Extends texts by one token, and keeps the best finished and live ones.

  One step of M = 2 beams over V = 3 tokens, of which 2 ends a text:

    score    -1  -3            log-probabilities of the beams `5` and `6`
    totals   -2  -4  -1.5      `5` with token 0, 1 or 2
             -6  -3.1  -7      `6` with token 0, 1 or 2
    choice    2   0   4   1    the W = 4 best of the six, as beam * V + token
    parent    0   0   1   0
    token     2   0   1   1    the first, `5 2`, has ended
    live      1   2            the M best of the others: `5 0` and `6 1`

  Args:
    state: before the step.
    log_probs: [B, M, V], of the next token.
    eos_id: ends a text; where several do, all of them.
    rule: rule of the search.

  Returns:
    The state with the new texts, but the logits and cache of the step before;
    the last token of each live text [B, M]; and the beam it extends [B, M].
  """
  batch, beams, vocab = log_probs.shape
  # Each beam ends in as many ways as there are ends; M candidates stay live.
  num_ends = jnp.size(jnp.asarray(eos_id))
  wide = min(max(2, 1 + num_ends) * beams, beams * vocab)
  totals = (state.score[:, :, None] + log_probs).reshape(batch, -1)  # [B, M V]
  score, choice = jax.lax.top_k(totals, wide)  # [B, W]
  parent, token = choice // vocab, (choice % vocab).astype(jnp.int32)
  tokens = jnp.take_along_axis(state.tokens, parent[:, :, None], axis=1)
  tokens = tokens.at[:, :, state.index].set(token)  # [B, W, T]
  ended = sampling.is_end(token, eos_id)  # [B, W]
  finished_tokens, finished_score = _finish(state, tokens, score, ended, rule)
  score, live = jax.lax.top_k(jnp.where(ended, -jnp.inf, score), beams)
  token = jnp.take_along_axis(token, live, axis=1)  # [B, M]
  parent = jnp.take_along_axis(parent, live, axis=1)  # [B, M]
  state = state.replace(
    index=state.index + 1,
    tokens=jnp.take_along_axis(tokens, live[:, :, None], axis=1),
    score=score,
    finished_tokens=finished_tokens,
    finished_score=finished_score,
  )
  return state.replace(searching=rule.continues(state)), token, parent


def _finish(
  state: _BeamState,
  tokens: Array,
  score: Array,
  ended: Array,
  rule: _SearchRule,
) -> tuple[Array, Array]:
  """Keeps the best of the finished texts and of those that have just ended.

  Of the step above, with length_penalty 1 in the search of transformers:

    finished   -0.9   -inf   scores of the M texts that had finished before
    `5 2`      -1.5 / 2      its log-probability, by its number of tokens
    finished   -0.75  -0.9   the M best of both; with early_stopping True the
                             search is over, as there are M

  Args:
    state: before the step.
    tokens: [B, W, T], the candidates.
    score: [B, W], their log-probabilities.
    ended: [B, W], whether their last token ends a text.
    rule: rule of the search.

  Returns:
    `finished_tokens` [B, M, T] and `finished_score` [B, M] after the step.
  """
  beams = state.score.shape[1]
  # An end counts only among the first M candidates, while the search is open.
  eligible = ended
  if rule.follows_transformers:  # So does a text of full length.
    eligible = ended | (state.index + 1 == rule.max_new_tokens)
  eligible &= (jnp.arange(ended.shape[1]) < beams)[None] & state.searching[
    :, None
  ]
  penalty = rule.compute_penalty(state.index + 1)
  ended_score = jnp.where(eligible, score / penalty, -jnp.inf)
  scores = jnp.concatenate([state.finished_score, ended_score], axis=1)
  finished_score, kept = jax.lax.top_k(scores, beams)  # [B, M] of [B, M + W]
  texts = jnp.concatenate([state.finished_tokens, tokens], axis=1)
  texts = jnp.take_along_axis(texts, kept[:, :, None], axis=1)  # [B, M, T]
  return texts, finished_score


def _select_best(
  final: _BeamState,
  eos_id: int | Sequence[int],
  pad_id: int,
  rule: _SearchRule,
) -> sampling.Generated:
  """Selects the best text of each example, ended or as long as it may be."""
  # What is still live after the loop has T tokens; in the search of
  # transformers it is among the ended.
  eligible = final.searching & (not rule.follows_transformers)
  unfinished = jnp.where(eligible[:, None], final.score, -jnp.inf)
  unfinished = unfinished / rule.compute_penalty(rule.max_new_tokens)
  scores = jnp.concatenate(
    [final.finished_score, unfinished], axis=1
  )  # [B, 2M]
  tokens = jnp.concatenate([final.finished_tokens, final.tokens], axis=1)
  best = jnp.argmax(scores, axis=1)[:, None]  # [B, 1]
  tokens = jnp.take_along_axis(tokens, best[:, :, None], axis=1)[:, 0]  # [B, T]
  is_end = sampling.is_end(tokens, eos_id)
  mask = jnp.cumsum(is_end, axis=1) - is_end == 0
  score = jnp.take_along_axis(scores, best, axis=1)[:, 0]
  return sampling.Generated(jnp.where(mask, tokens, pad_id), mask, score)
