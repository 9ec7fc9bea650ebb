"""Writing text with a decoder by beam search, as a compiled loop."""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from mmjax.decoders import cache as cache_lib
from mmjax.decoders import constraints as constraints_lib
from mmjax.decoders import generation
from mmjax.errors import ConfigError
from mmjax.types import Array


@flax.struct.dataclass
class _BeamState:
  index: Array  # []
  logits: Array  # [B * M, V]
  cache: cache_lib.DecoderCache  # batch B * M
  tokens: Array  # [B, M, T] texts being written
  score: Array  # [B, M] their log-probabilities, -inf for none
  best_tokens: Array  # [B, M, T] ended texts
  best_score: Array  # [B, M] their scores by length, -inf for none


def beam_search(
  step: generation.StepFn,
  logits: Array,
  cache: cache_lib.DecoderCache,
  *,
  length: int,
  beam_size: int,
  length_penalty: float = 0.6,
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

  Args:
    step: decodes one token of each example, see `generation`.
    logits: [B, V], of the first token to write.
    cache: after the prompt, with room for `length` tokens more.
    length: most tokens to write T.
    beam_size: M; 1 gives the tokens of greedy decoding.
    length_penalty: 0 prefers short texts, 1 the best mean per token.
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

  def cond(state: _BeamState):
    return (state.index < length) & ~jnp.all(_is_over(state))

  def body(state: _BeamState):
    history = constraints_lib.History.after(
      *before, state.tokens.reshape(-1, length), state.index
    )
    log_probs = constraints.apply(
      jax.nn.log_softmax(state.logits), history, length=length, eos_id=eos_id
    ).reshape(batch, beams, vocab)
    state, token, parent = _extend(state, log_probs, eos_id, length_penalty)
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
    ),
  )
  return _select_best(end, eos_id, pad_id, length_penalty)


def _extend(
  state: _BeamState,
  log_probs: Array,
  eos_id: int | Sequence[int],
  length_penalty: float,
) -> tuple[_BeamState, Array, Array]:
  """Extends texts by one token, and keeps the best ended and live ones.

  One step of M = 2 beams over V = 3 tokens, of which 2 ends a text:

    score    -1  -3            log-probabilities of the beams `5` and `6`
    totals   -2  -4  -1.5      `5` with token 0, 1 or 2
             -6  -3.1  -7      `6` with token 0, 1 or 2
    choice    2   0   4   1    the 2 * M best of the six, as beam * V + token
    parent    0   0   1   0
    token     2   0   1   1    the first, `5 2`, has ended: it goes to `best`
    live      1   2            the M best of the others: `5 0` and `6 1`

  Args:
    state: before the step.
    log_probs: [B, M, V], of the next token.
    eos_id: ends a text; where several do, all of them.
    length_penalty: exponent of the penalty.

  Returns:
    The state with the new texts, but the logits and cache of the step before;
    the last token of each live text [B, M]; and the beam it extends [B, M].
  """
  batch, beams, vocab = log_probs.shape
  # Twice as many candidates as beams: at most M of them end, so M stay live.
  wide = min(2 * beams, beams * vocab)
  totals = state.score[:, :, None] + log_probs  # [B, M, V]
  score, choice = jax.lax.top_k(totals.reshape(batch, -1), wide)  # [B, 2M]
  parent, token = choice // vocab, (choice % vocab).astype(jnp.int32)
  tokens = jnp.take_along_axis(state.tokens, parent[:, :, None], axis=1)
  tokens = tokens.at[:, :, state.index].set(token)  # [B, 2M, T]
  ended = generation.is_end(token, eos_id)  # [B, 2M]
  # An end counts only among the first M candidates, and until M have ended.
  counts = ended & (jnp.arange(wide) < beams)[None] & ~_is_over(state)[:, None]
  penalty = _compute_penalty(state.index + 1, length_penalty)
  ended_score = jnp.where(counts, score / penalty, -jnp.inf)
  best_score, kept = jax.lax.top_k(
    jnp.concatenate([state.best_score, ended_score], axis=1), beams
  )  # [B, M] of [B, 3M]
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
  return state, token, parent


def _select_best(
  end: _BeamState,
  eos_id: int | Sequence[int],
  pad_id: int,
  length_penalty: float,
) -> generation.Generated:
  """Selects the best text of each example, ended or as long as it may be."""
  # What is still live after the loop has T tokens.
  unfinished = jnp.where(_is_over(end)[:, None], -jnp.inf, end.score)
  unfinished = unfinished / _compute_penalty(
    end.tokens.shape[2], length_penalty
  )
  scores = jnp.concatenate([end.best_score, unfinished], axis=1)  # [B, 2M]
  tokens = jnp.concatenate([end.best_tokens, end.tokens], axis=1)
  best = jnp.argmax(scores, axis=1)[:, None]  # [B, 1]
  tokens = jnp.take_along_axis(tokens, best[:, :, None], axis=1)[:, 0]  # [B, T]
  ends = generation.is_end(tokens, eos_id)
  mask = jnp.cumsum(ends, axis=1) - ends == 0
  score = jnp.take_along_axis(scores, best, axis=1)[:, 0]
  return generation.Generated(jnp.where(mask, tokens, pad_id), mask, score)


def _compute_penalty(
  tokens: Array | int, length_penalty: float
) -> Array | float:
  return ((5.0 + tokens) / 6.0) ** length_penalty


def _is_over(state: _BeamState) -> Array:
  """Whether M texts of an example have ended, [B]."""
  return jnp.all(jnp.isfinite(state.best_score), axis=1)


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
