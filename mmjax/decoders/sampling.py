"""Text generation by sampling, as a compiled loop.

It starts after a prefill, from the logits of the first token to write and the
cache, and continues by a step function, so it knows nothing of modules, as does
`beam_search`:

  step(tokens [B, 1], cache, mask [B, 1]) -> (logits [B, 1, V], cache)

What an example gets doesn't depend on the others in its batch, nor on how far
its prompt was padded.
"""

from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.decoders import cache as cache_lib
from mmjax.decoders import logit_processors as processors_lib
from mmjax.errors import ConfigError
from mmjax.types import Array

StepFn = Callable[..., tuple[Array, cache_lib.DecoderCache]]
# The tokens [B] of a step -> which texts end with them, bool [B].
OnTokens = Callable[[np.ndarray], np.ndarray]


@flax.struct.dataclass
class Generated:
  """What was written.

  Attributes:
    tokens: [B, T] int32, without the prompt; after the end, padding.
    mask: [B, T], True on tokens up to and with the end of text.
    score: [B] float32, the sum of the tokens' log-probabilities at temperature
      1; for beam search divided by the length penalty.
    log_probs: [B, T] float32, log-probabilities of the tokens at the
      temperature of sampling, before `top_k` and `top_p`; 0 after the end. None
      of beam search.
  """

  tokens: Array
  mask: Array
  score: Array
  log_probs: Array | None = None


@flax.struct.dataclass
class _SampleState:
  index: Array  # []
  logits: Array  # [B, V] of the token to choose
  cache: cache_lib.DecoderCache
  tokens: Array  # [B, T]
  mask: Array  # [B, T]
  score: Array  # [B]
  log_probs: Array  # [B, T]
  done: Array  # [B]


def sample(
  step: StepFn,
  logits: Array,
  cache: cache_lib.DecoderCache,
  *,
  max_new_tokens: int,
  rng: Array | None = None,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
  eos_id: int | Sequence[int] = 2,
  pad_id: int = 0,
  prompt: tuple[Array, Array] | None = None,
  logit_processors: processors_lib.LogitProcessors = processors_lib.NONE,
  on_tokens: OnTokens | None = None,
) -> Generated:
  """Writes token after token; stops when all examples have ended.

  Args:
    step: decodes one token of each example, as above.
    logits: [B, V], of the first token to write.
    cache: after the prompt, with room for `max_new_tokens` tokens more.
    max_new_tokens: most tokens to write T.
    rng: a key; needed unless `temperature` is 0. An example's draws depend on
      the key and its row alone. With keys [B] they depend on the example's key
      alone, and are those of a batch of this example with this key.
    temperature: 0 for greedy decoding.
    top_k: number of likeliest tokens to sample from; 0 for all.
    top_p: least probability that the tokens to sample from have together.
    eos_id: ends a text; where several do, all of them.
    pad_id: fills up after the end.
    prompt: ids [B, P] of what stands before the text and their mask [B, P],
      which `logit_processors` count and compare; None for nothing.
    logit_processors: what may be written.
    on_tokens: called with the tokens [B] of each step, in their order; says
      which texts end with them, bool [B]. None to call nothing.

  Returns:
    Generated, [B, T].

  Raises:
    ConfigError: if `rng` is missing, a setting is impossible, or the cache has
      too few slots. In a compiled program, log-probabilities past its end are
      NaN.
  """
  if temperature != 0 and rng is None:
    raise ConfigError(
      f'sampling with temperature {temperature} needs an rng; pass one, or '
      f'temperature=0 for greedy decoding'
    )
  cache.check_length(max_new_tokens)
  batch = logits.shape[0]
  rows = _make_row_keys(jax.random.key(0) if rng is None else rng, batch)
  before = align_prompt(prompt, batch)

  def cond(state: _SampleState):
    return (state.index < max_new_tokens) & ~jnp.all(state.done)

  def body(state: _SampleState):
    rngs = jax.vmap(jax.random.fold_in, (0, None))(rows, state.index)
    history = processors_lib.History.after(*before, state.tokens, state.index)
    logits = logit_processors.apply(
      state.logits, history, max_new_tokens=max_new_tokens, eos_id=eos_id
    )
    token = ops.sample_token(rngs, logits, temperature, top_k, top_p)  # [B]
    gained = _log_probs(logits, token)  # [B]
    sampled = _log_probs(logits / (temperature or 1.0), token)
    alive = ~state.done
    token = jnp.where(alive, token, pad_id)
    done = state.done | is_end(token, eos_id)
    if on_tokens is not None:
      done |= jax.experimental.io_callback(
        on_tokens, jax.ShapeDtypeStruct((batch,), bool), token, ordered=True
      )
    logits, cache = step(token[:, None], state.cache, alive[:, None])
    return _SampleState(
      index=state.index + 1,
      logits=logits[:, -1],
      cache=cache,
      tokens=state.tokens.at[:, state.index].set(token),
      mask=state.mask.at[:, state.index].set(alive),
      score=state.score + jnp.where(alive, gained, 0.0),
      log_probs=state.log_probs.at[:, state.index].set(
        jnp.where(alive, sampled, 0.0)
      ),
      done=done,
    )

  end = jax.lax.while_loop(
    cond,
    body,
    _SampleState(
      index=jnp.zeros((), jnp.int32),
      logits=logits,
      cache=cache,
      tokens=jnp.full((batch, max_new_tokens), pad_id, jnp.int32),
      mask=jnp.zeros((batch, max_new_tokens), bool),
      score=jnp.zeros((batch,), jnp.float32),
      log_probs=jnp.zeros((batch, max_new_tokens), jnp.float32),
      done=jnp.zeros((batch,), bool),
    ),
  )
  return Generated(end.tokens, end.mask, end.score, end.log_probs)


def _log_probs(logits: Array, tokens: Array) -> Array:
  """Log-probabilities [B] of tokens [B] by logits [B, V]."""
  log_probs = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]


def make_keys(seed: int | Sequence[int]) -> Array:
  """The `rng` of `sample`: a key, or a key [B] for each of several seeds."""
  if isinstance(seed, int | np.integer):
    return jax.random.key(seed)
  return jnp.stack([jax.random.key(one) for one in seed])


def _make_row_keys(rng: Array, batch: int) -> Array:
  """The key of each row [B]."""
  if rng.ndim == 0:
    return jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(batch))
  if rng.shape != (batch,):
    raise ConfigError(
      f'{len(rng)} seeds do not match {batch} texts; give one seed, or one for '
      'each text'
    )
  return jax.vmap(jax.random.fold_in, (0, None))(rng, 0)


def align_prompt(
  prompt: tuple[Array, Array] | None, batch: int
) -> tuple[Array, Array]:
  """Moves a prompt's padding in front: [B, P] and mask; [B, 0] for none."""
  if prompt is None:
    return jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch, 0), bool)
  return processors_lib.align(*prompt)


def is_end(tokens: Array, eos_id: int | Sequence[int]) -> Array:
  """Which tokens end a text."""
  return jnp.isin(tokens, jnp.asarray(eos_id, jnp.int32))
