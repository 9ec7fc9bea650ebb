"""Writing text with a decoder: sampling and beam search, as compiled loops.

Both start after a prefill, from the logits of the first token to write and the
cache, and continue by a step function, so they know nothing of modules:

  step(tokens [B, 1], cache, mask [B, 1]) -> (logits [B, 1, V], cache)

What an example gets doesn't depend on the others in its batch, nor on how far
its prompt was padded.
"""

from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.decoders import cache as cache_lib
from mmjax.decoders import constraints as constraints_lib
from mmjax.types import Array

StepFn = Callable[..., tuple[Array, cache_lib.DecoderCache]]


@flax.struct.dataclass
class Generated:
  """What was written.

  Attributes:
    tokens: [B, T] int32, without the prompt; after the end, padding.
    mask: [B, T], True on tokens up to and with the end of text.
    score: [B] float32, the sum of the tokens' log-probabilities; for beam
      search divided by the length penalty.
  """

  tokens: Array
  mask: Array
  score: Array


@flax.struct.dataclass
class _SampleState:
  index: Array  # []
  logits: Array  # [B, V] of the token to choose
  cache: cache_lib.DecoderCache
  tokens: Array  # [B, T]
  mask: Array  # [B, T]
  score: Array  # [B]
  done: Array  # [B]


def sample(
  step: StepFn,
  logits: Array,
  cache: cache_lib.DecoderCache,
  *,
  length: int,
  rng: Array | None = None,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
  eos_id: int | Sequence[int] = 2,
  pad_id: int = 0,
  prompt: tuple[Array, Array] | None = None,
  constraints: constraints_lib.Constraints = constraints_lib.NONE,
) -> Generated:
  """Writes token after token; stops when all examples have ended.

  Args:
    step: decodes one token of each example, as above.
    logits: [B, V], of the first token to write.
    cache: after the prompt, with room for `length` tokens more.
    length: most tokens to write T.
    rng: a key; needed unless `temperature` is 0. An example's draws depend on
      the key and its row alone.
    temperature: 0 for greedy decoding.
    top_k: number of likeliest tokens to sample from; 0 for all.
    top_p: least probability that the tokens to sample from have together.
    eos_id: ends a text; where several do, all of them.
    pad_id: fills up after the end.
    prompt: ids [B, P] of what stands before the text and their mask [B, P],
      which `constraints` count and compare; None for nothing.
    constraints: what may be written.

  Returns:
    Generated, [B, T].

  Raises:
    ValueError: if `rng` is missing, or a setting is impossible.
  """
  if temperature != 0 and rng is None:
    raise ValueError(
      f'sampling with temperature {temperature} needs an rng; pass one, or '
      f'temperature=0 for greedy decoding'
    )
  batch = logits.shape[0]
  rng = jax.random.key(0) if rng is None else rng
  rows = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(batch))
  before = _align_prompt(prompt, batch)

  def cond(state: _SampleState):
    return (state.index < length) & ~jnp.all(state.done)

  def body(state: _SampleState):
    rngs = jax.vmap(jax.random.fold_in, (0, None))(rows, state.index)
    history = constraints_lib.History.after(*before, state.tokens, state.index)
    logits = constraints.apply(
      state.logits, history, length=length, eos_id=eos_id
    )
    token = ops.sample_token(rngs, logits, temperature, top_k, top_p)  # [B]
    log_probs = jax.nn.log_softmax(logits)  # [B, V]
    gained = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]  # [B]
    alive = ~state.done
    token = jnp.where(alive, token, pad_id)
    logits, cache = step(token[:, None], state.cache, alive[:, None])
    return _SampleState(
      index=state.index + 1,
      logits=logits[:, -1],
      cache=cache,
      tokens=state.tokens.at[:, state.index].set(token),
      mask=state.mask.at[:, state.index].set(alive),
      score=state.score + jnp.where(alive, gained, 0.0),
      done=state.done | _is_end(token, eos_id),
    )

  end = jax.lax.while_loop(
    cond,
    body,
    _SampleState(
      index=jnp.zeros((), jnp.int32),
      logits=logits,
      cache=cache,
      tokens=jnp.full((batch, length), pad_id, jnp.int32),
      mask=jnp.zeros((batch, length), bool),
      score=jnp.zeros((batch,), jnp.float32),
      done=jnp.zeros((batch,), bool),
    ),
  )
  return Generated(end.tokens, end.mask, end.score)


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
  step: StepFn,
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
) -> Generated:
  """Keeps the `beam_size` likeliest texts while writing.

  Scores are log p / ((5 + t) / 6)^length_penalty with t tokens, the end of
  text included (Wu et al. 2016, equation 14, without the coverage term). An
  example is over when `beam_size` texts have ended. A text that has not ended
  after `length` tokens counts as it stands.

  Args:
    step: decodes one token of each example, as above.
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
    ValueError: if `beam_size` is less than 1.
  """
  if beam_size < 1:
    raise ValueError(f'beam_size must be at least 1, got {beam_size}')
  (batch, vocab), beams = logits.shape, beam_size
  start = jnp.repeat(jnp.arange(batch), beams)  # [B * M], 0 0 1 1 ...
  nothing = jnp.full((batch, beams, length), pad_id, jnp.int32)
  # One step of M = 2 beams over V = 3 tokens, of which 2 ends a text:
  #
  #   score    -1  -3            log-probabilities of the beams `5` and `6`
  #   totals   -2  -4  -1.5      `5` with token 0, 1 or 2
  #            -6  -3.1  -7      `6` with token 0, 1 or 2
  #   choice    2   0   4   1    the 2 * M best of the six, as beam * V + token
  #   parent    0   0   1   0
  #   token     2   0   1   1    the first, `5 2`, has ended: it goes to `best`
  #   live      1   2            the M best of the others: `5 0` and `6 1`
  #
  # Twice as many candidates as beams: at most M of them end, so M stay live.
  wide = min(2 * beams, beams * vocab)
  before = [array[start] for array in _align_prompt(prompt, batch)]

  def penalty(tokens: Array | int) -> Array:
    return ((5.0 + tokens) / 6.0) ** length_penalty

  def over(state: _BeamState) -> Array:
    return jnp.all(jnp.isfinite(state.best_score), axis=1)

  def cond(state: _BeamState):
    return (state.index < length) & ~jnp.all(over(state))

  def body(state: _BeamState):
    history = constraints_lib.History.after(
      *before, state.tokens.reshape(-1, length), state.index
    )
    log_probs = constraints.apply(
      jax.nn.log_softmax(state.logits), history, length=length, eos_id=eos_id
    ).reshape(batch, beams, vocab)
    totals = state.score[:, :, None] + log_probs  # [B, M, V]
    score, choice = jax.lax.top_k(totals.reshape(batch, -1), wide)  # [B, 2M]
    parent, token = choice // vocab, (choice % vocab).astype(jnp.int32)
    tokens = jnp.take_along_axis(state.tokens, parent[:, :, None], axis=1)
    tokens = tokens.at[:, :, state.index].set(token)  # [B, 2M, T]
    ended = _is_end(token, eos_id)
    # An end counts only among the first M candidates, and until M have ended.
    counts = ended & (jnp.arange(wide) < beams)[None] & ~over(state)[:, None]
    ended_score = jnp.where(counts, score / penalty(state.index + 1), -jnp.inf)
    best_score, kept = jax.lax.top_k(
      jnp.concatenate([state.best_score, ended_score], axis=1), beams
    )  # [B, M] of [B, 3M]
    everything = jnp.concatenate([state.best_tokens, tokens], axis=1)
    best = jnp.take_along_axis(everything, kept[:, :, None], axis=1)
    score, live = jax.lax.top_k(jnp.where(ended, -jnp.inf, score), beams)
    token = jnp.take_along_axis(token, live, axis=1)  # [B, M]
    parent = jnp.take_along_axis(parent, live, axis=1)  # [B, M]
    rows = (jnp.arange(batch)[:, None] * beams + parent).reshape(-1)  # [B * M]
    logits, cache = step(
      token.reshape(-1, 1),
      _take_rows(state.cache, rows),
      jnp.ones((batch * beams, 1), bool),
    )
    return _BeamState(
      index=state.index + 1,
      logits=logits[:, -1],
      cache=cache,
      tokens=jnp.take_along_axis(tokens, live[:, :, None], axis=1),
      score=score,
      best_tokens=best,
      best_score=best_score,
    )

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
  # Whatever is still being written after the loop is `length` tokens long.
  unfinished = jnp.where(over(end)[:, None], -jnp.inf, end.score)
  unfinished = unfinished / penalty(length)
  scores = jnp.concatenate([end.best_score, unfinished], axis=1)  # [B, 2M]
  tokens = jnp.concatenate([end.best_tokens, end.tokens], axis=1)
  best = jnp.argmax(scores, axis=1)[:, None]  # [B, 1]
  tokens = jnp.take_along_axis(tokens, best[:, :, None], axis=1)[:, 0]
  ends = _is_end(tokens, eos_id)
  mask = jnp.cumsum(ends, axis=1) - ends == 0
  score = jnp.take_along_axis(scores, best, axis=1)[:, 0]
  return Generated(jnp.where(mask, tokens, pad_id), mask, score)


def _align_prompt(
  prompt: tuple[Array, Array] | None, batch: int
) -> tuple[Array, Array]:
  """Moves a prompt's padding in front: [B, P] and mask; [B, 0] for none."""
  if prompt is None:
    return jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch, 0), bool)
  return constraints_lib.align(*prompt)


def _is_end(tokens: Array, eos_id: int | Sequence[int]) -> Array:
  """Which tokens end a text."""
  return jnp.isin(tokens, jnp.asarray(eos_id, jnp.int32))


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
