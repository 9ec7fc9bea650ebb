"""Continuous batching: texts that begin and end at any time, row by row.

`sample` writes a batch whose texts begin together; a server's don't. Here each
row of a batch is a text of its own, with its own settings. A text is inserted
into a free row after its prefill, `advance` writes one token of every live row,
and `arrange` moves rows where there is room for more.

All texts end at the same column, the cache's `index`, and begin where they
begin: three texts of 5, 3 and 2 tokens before and after a step,

    a a a a a . .      a a a a a a .
    . . b b b . .      . . b b b b .
    . . . c c . .      . . . c c c .
            index                index

What a row gets depends on nothing but its prompt, its settings and its key.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.decoders import cache as cache_lib
from mmjax.decoders import logit_processors as processors_lib
from mmjax.decoders import sampling
from mmjax.errors import ConfigError
from mmjax.types import Array

# Log-probabilities of so many of the likeliest tokens are returned.
NUM_LIKELIEST = 20


@flax.struct.dataclass
class RowSettings:
  """How a text is sampled, of one row [] or of all rows [B].

  Attributes:
    key: data of a random key [2] uint32; row i of `sample` with the key k
      draws as a text with `fold_in(k, i)`.
    temperature: 0 for the likeliest token.
    top_k: number of likeliest tokens to sample from; 0 for all.
    top_p: least probability that the tokens to sample from have together.
    repetition_penalty: repetition penalty, as in `LogitProcessors`, like the
      next two.
    presence_penalty: penalty of tokens that have been written.
    frequency_penalty: penalty of tokens, for each time.
    max_new_tokens: most tokens that are written.
  """

  key: Array
  temperature: Array
  top_k: Array
  top_p: Array
  repetition_penalty: Array
  presence_penalty: Array
  frequency_penalty: Array
  max_new_tokens: Array


@flax.struct.dataclass
class Prefilled:
  """The prompt of one text, read into a cache.

  Attributes:
    logits: [1, V] of the first token to write.
    cache: that holds the prompt, P slots, and nothing else.
    tokens: [1, P] int32.
  """

  logits: Array
  cache: cache_lib.DecoderCache
  tokens: Array


@flax.struct.dataclass
class LiveBatch:
  """The texts of B rows.

  Attributes:
    cache: their cache, S slots a row.
    tokens: [B, S] int32, the ids in the cache's slots.
    logits: [B, V] of each row's next token.
    num_generated: [B] int32, how many tokens of each row have been written.
    settings: settings of all rows.
  """

  cache: cache_lib.DecoderCache
  tokens: Array
  logits: Array
  num_generated: Array
  settings: RowSettings


@flax.struct.dataclass
class Step:
  """What a step has written.

  Attributes:
    tokens: [B] int32.
    log_probs: [B], their log-probabilities before any setting changes them.
    likeliest: [B, K] int32, the likeliest tokens; zeros unless they were asked
      for.
    likeliest_log_probs: [B, K].
  """

  tokens: Array
  log_probs: Array
  likeliest: Array
  likeliest_log_probs: Array


def make_empty(
  prompt: Prefilled, settings: RowSettings, batch: int
) -> LiveBatch:
  """B rows without a text, with as many slots as a prompt has.

  Args:
    prompt: any, whose dtypes and sizes are taken.
    settings: settings of any row.
    batch: B.

  Raises:
    ConfigError: for a decoder that attends to a context.
  """
  if prompt.cache.context_mask is not None:
    raise ConfigError(
      'a decoder with cross-attention does not write rows of their own'
    )

  def widen(leaf: Array, axis: int = 0) -> Array:
    shape = (*leaf.shape[:axis], batch, *leaf.shape[axis + 1 :])
    return jnp.zeros(shape, leaf.dtype)

  cache = prompt.cache
  blocks, unimodal = jax.tree.map(
    lambda leaf: widen(leaf, 1), (cache.blocks, cache.unimodal)
  )
  return LiveBatch(
    cache.replace(
      blocks=blocks,
      unimodal=unimodal,
      mask=widen(cache.mask),
      next_position=widen(cache.next_position),
    ),
    widen(prompt.tokens),
    widen(prompt.logits),
    jnp.zeros(batch, jnp.int32),
    jax.tree.map(lambda leaf: widen(leaf[None]), settings),
  )


def insert(
  state: LiveBatch, row: Array, prompt: Prefilled, settings: RowSettings
) -> LiveBatch:
  """Begins a text in a row, which forgets the one before.

  Args:
    state: state with an index of at least P, the prompt's number of slots.
    row: [], which.
    prompt: the prompt; its padding may stand anywhere.
    settings: settings of this row.
  """
  order = jnp.argsort(prompt.cache.mask[0], stable=True)  # Padding in front.
  length, cache = len(order), state.cache
  start = cache.index - length

  def place(all_rows: Array, new: Array, axis: int = 0) -> Array:
    """Puts [..., 1, P, ...] into the row, before the index."""
    new = jnp.take(new, order, axis=axis + 1)
    starts = [0] * all_rows.ndim
    starts[axis], starts[axis + 1] = row, start
    return jax.lax.dynamic_update_slice(all_rows, new, starts)

  blocks, unimodal = jax.tree.map(
    lambda all_rows, new: place(all_rows, new, 1),
    (cache.blocks, cache.unimodal),
    (prompt.cache.blocks, prompt.cache.unimodal),
  )
  next_position = prompt.cache.next_position[0]
  return LiveBatch(
    cache.replace(
      blocks=blocks,
      unimodal=unimodal,
      mask=place(cache.mask.at[row].set(False), prompt.cache.mask),
      next_position=cache.next_position.at[row].set(next_position),
    ),
    place(state.tokens, prompt.tokens),
    state.logits.at[row].set(prompt.logits[0]),
    state.num_generated.at[row].set(0),
    jax.tree.map(
      lambda all_rows, new: all_rows.at[row].set(new), state.settings, settings
    ),
  )


def arrange(
  state: LiveBatch, rows: Array, shift: Array, num_slots: int
) -> LiveBatch:
  """Moves texts to other rows and slots.

  Args:
    state: B rows of S slots.
    rows: [B'], the row that each new row takes; -1 for none.
    shift: [], by how many slots texts move to the front; below 0, to the end.
      What moves beyond either is lost.
    num_slots: S'.
  """
  columns = jnp.arange(num_slots) + shift  # [S']
  inside = (columns >= 0) & (columns < state.tokens.shape[1])

  def move(leaf: Array, axis: int = 0) -> Array:
    leaf = jnp.take(leaf, rows, axis=axis, mode='clip')
    return jnp.take(leaf, columns, axis=axis + 1, mode='clip')

  take = lambda leaf: jnp.take(leaf, rows, axis=0, mode='clip')
  cache = state.cache
  blocks, unimodal = jax.tree.map(
    lambda leaf: move(leaf, 1), (cache.blocks, cache.unimodal)
  )
  real = (rows >= 0)[:, None] & inside[None]  # [B', S']
  return LiveBatch(
    cache.replace(
      blocks=blocks,
      unimodal=unimodal,
      mask=move(cache.mask) & real,
      index=cache.index - shift,
      next_position=take(cache.next_position),
    ),
    move(state.tokens),
    take(state.logits),
    take(state.num_generated),
    jax.tree.map(take, state.settings),
  )


def advance(
  step: sampling.StepFn,
  state: LiveBatch,
  alive: Array,
  *,
  eos_id: Sequence[int],
  logit_processors: Mapping[str, Any],
  with_likeliest: Array,
) -> tuple[LiveBatch, Step]:
  """Writes one token of each live row.

  Args:
    step: decodes one token of each row, as in `sample`.
    state: state with room for a token, an index below S.
    alive: [B], which rows write; what the others get means nothing.
    eos_id: ids that end a text.
    logit_processors: fields of `LogitProcessors` that all rows share.
    with_likeliest: [], whether the likeliest tokens are returned.
  """
  settings, cache = state.settings, state.cache
  history = processors_lib.History(
    state.tokens, cache.mask, cache.index, state.num_generated[:, None]
  )
  allowed = processors_lib.LogitProcessors(
    repetition_penalty=settings.repetition_penalty[:, None],
    presence_penalty=settings.presence_penalty[:, None],
    frequency_penalty=settings.frequency_penalty[:, None],
    **logit_processors,
  )
  logits = allowed.apply(
    state.logits,
    history,
    max_new_tokens=settings.max_new_tokens[:, None],
    eos_id=eos_id,
  )
  keys = jax.vmap(jax.random.fold_in)(
    jax.random.wrap_key_data(settings.key), state.num_generated
  )
  tokens = ops.sample_each(
    keys, logits, settings.temperature, settings.top_k, settings.top_p
  )
  generated = _describe(state.logits, tokens, with_likeliest)
  next_logits, next_cache = step(tokens[:, None], cache, alive[:, None])
  return (
    LiveBatch(
      next_cache,
      jax.lax.dynamic_update_slice(
        state.tokens, tokens[:, None], (0, cache.index)
      ),
      next_logits[:, -1],
      state.num_generated + alive,
      settings,
    ),
    generated,
  )


def _describe(logits: Array, tokens: Array, with_likeliest: Array) -> Step:
  """The tokens [B] of a step with their log-probabilities."""
  log_probs = jax.nn.log_softmax(logits)  # [B, V]
  number = min(NUM_LIKELIEST, logits.shape[1])

  def find(log_probs: Array) -> tuple[Array, Array]:
    return tuple(jax.lax.top_k(log_probs, number))

  def skip(log_probs: Array) -> tuple[Array, Array]:
    shape = (len(log_probs), number)
    return jnp.zeros(shape, log_probs.dtype), jnp.zeros(shape, jnp.int32)

  values, likeliest = jax.lax.cond(with_likeliest, find, skip, log_probs)
  gained = jnp.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]
  return Step(tokens, gained, likeliest, values)
