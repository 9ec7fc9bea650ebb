"""Logit processors: changes of logits by the tokens before.

They are those of transformers' `generate`, in its order, so that a setting of
a generation_config.json has the same effect here.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.types import Array


@flax.struct.dataclass
class History:
  """The tokens before the one to write.

  Attributes:
    tokens: [B, S] int32, a prompt and then what is written, without padding
      between them.
    mask: [B, S], True where there is a token.
    end: [], the column behind the last token, the same for all examples.
    num_generated: how many tokens have been written: [], or [B, 1] by example.
  """

  tokens: Array
  mask: Array
  end: Array
  num_generated: Array

  @classmethod
  def after(
    cls, prompt: Array, mask: Array, generated: Array, num_generated: Array
  ) -> 'History':
    """Joins a prompt and the first `num_generated` tokens.

    Args:
      prompt: [B, P], padding in front.
      mask: [B, P].
      generated: [B, T], of which only the first `num_generated` count.
      num_generated: [].
    """
    new = jnp.arange(generated.shape[1])[None] < num_generated
    new = jnp.broadcast_to(new, generated.shape)
    return cls(
      jnp.concatenate([prompt, generated], axis=1),
      jnp.concatenate([mask, new], axis=1),
      prompt.shape[1] + num_generated,
      num_generated,
    )

  @property
  def generated_mask(self) -> Array:
    """[B, S], True on the tokens that have been written."""
    columns = jnp.arange(self.tokens.shape[1])[None]  # [1, S]
    return self.mask & (columns >= self.end - self.num_generated)

  def last(self, number: int) -> tuple[Array, Array]:
    """The last `number` tokens [B, n], and whether all are real [B]."""
    columns = self.end - number + jnp.arange(number)
    tokens = jnp.take(self.tokens, columns, axis=1, mode='clip')
    real = jnp.take(self.mask, columns, axis=1, mode='clip')  # [B, n]
    return tokens, jnp.all(real & (columns >= 0)[None], axis=1)


def align(tokens: Array, mask: Array) -> tuple[Array, Array]:
  """Moves all padding of prompts [B, P] and masks [B, P] in front.

  A prompt `a _ b _` becomes `_ _ a b`.
  """
  order = jnp.argsort(mask, axis=1, stable=True)
  return tuple(
    jnp.take_along_axis(array, order, axis=1) for array in (tokens, mask)
  )


def _is_number(value: float | Array) -> bool:
  return isinstance(value, int | float)


@dataclasses.dataclass(frozen=True)
class LogitProcessors:
  """Logit processors: which tokens may follow which; by default any.

  A token that may not be written has a logit of minus infinity. Lengths count
  the prompt's tokens without padding.

  The three penalties may also be arrays [B, 1], one number an example.

  Attributes:
    repetition_penalty: divides the positive logits of tokens that occurred, and
      multiplies the negative ones (Keskar et al. 2019, section 4.1).
    presence_penalty: is subtracted from the logits of tokens that have been
      written; the prompt's don't count. This and the next are OpenAI's.
    frequency_penalty: is subtracted once for each time that a token has been
      written.
    no_repeat_ngram: how many tokens in a row may not occur twice; 0 for any.
    min_length: tokens of prompt and text before the text may end.
    min_new_tokens: tokens of the text before it may end.
    biases: pairs of ids and a number, which is added to the logit of the last
      id where the others stand right before it; minus infinity rules it out.
    forced_first: the token that follows a prompt of a single token.
    forced_last: the token at the last position, if the text has not ended.
    suppress: ids that are never written.
    suppress_first: ids that are not written first, or, where `forced_first`
      is, not after it.
  """

  repetition_penalty: float | Array = 1.0
  presence_penalty: float | Array = 0.0
  frequency_penalty: float | Array = 0.0
  no_repeat_ngram: int = 0
  min_length: int = 0
  min_new_tokens: int = 0
  biases: Sequence[tuple[Sequence[int], float]] = ()
  forced_first: int | None = None
  forced_last: int | None = None
  suppress: Sequence[int] = ()
  suppress_first: Sequence[int] = ()

  def __post_init__(self):
    if _is_number(self.repetition_penalty) and self.repetition_penalty <= 0:
      raise ConfigError(
        f'repetition_penalty must be above 0, got {self.repetition_penalty}; '
        '1 changes nothing'
      )
    for name in ('no_repeat_ngram', 'min_length', 'min_new_tokens'):
      if getattr(self, name) < 0:
        raise ConfigError(
          f'{name} must be at least 0, got {getattr(self, name)}'
        )

  def apply(
    self,
    logits: Array,
    history: History,
    *,
    max_new_tokens: int | Array,
    eos_id: int | Sequence[int],
  ) -> Array:
    """Changes logits [B, V] of the token that follows `history`.

    Args:
      logits: [B, V], or log-probabilities.
      history: the tokens before the one to write.
      max_new_tokens: most tokens that are written; a number, or [B, 1].
      eos_id: ends a text; where several do, all of them.

    Raises:
      ConfigError: for a token that is not among the V.
    """
    vocab = logits.shape[-1]
    self._check_ids(vocab)
    for ids, bias in self.biases:
      logits = _add_bias(logits, history, ids, bias)
    logits = self._penalise(logits, history)
    if self.no_repeat_ngram:
      repeats = _mark_repeats(history, self.no_repeat_ngram, vocab)
      logits = jnp.where(repeats, -jnp.inf, logits)
    count = jnp.sum(history.mask, axis=1)[:, None]  # [B, 1]
    if self.min_length or self.min_new_tokens:
      short = (count < self.min_length) | (
        history.num_generated < self.min_new_tokens
      )
      logits = jnp.where(short & _mark_ids(eos_id, vocab), -jnp.inf, logits)
    if self.forced_first is not None:
      logits = _force(logits, count == 1, self.forced_first)
    if self.forced_last is not None:
      last = history.num_generated == max_new_tokens - 1
      logits = _force(logits, last, self.forced_last)
    first = history.num_generated == 0
    if self.forced_first is not None:
      alone = count - history.num_generated <= 1
      first = history.num_generated == alone.astype(jnp.int32)
    never = _mark_ids(self.suppress, vocab) | (
      _mark_ids(self.suppress_first, vocab) & first
    )
    return jnp.where(never, -jnp.inf, logits)

  def _penalise(self, logits: Array, history: History) -> Array:
    """Makes tokens that occurred less likely, in logits [B, V]."""
    vocab = logits.shape[-1]
    if _changes(self.repetition_penalty, 1):
      again = jnp.where(
        logits < 0,
        logits * self.repetition_penalty,
        logits / self.repetition_penalty,
      )
      occurred = _mark_occurring(history.tokens, history.mask, vocab)  # [B, V]
      logits = jnp.where(occurred, again, logits)
    if _changes(self.presence_penalty, 0) or _changes(
      self.frequency_penalty, 0
    ):
      counts = _count(history.tokens, history.generated_mask, vocab)  # [B, V]
      logits = logits - self.frequency_penalty * counts
      logits = logits - self.presence_penalty * (counts > 0)
    return logits

  def _check_ids(self, vocab: int) -> None:
    named = {
      'forced_first': [self.forced_first or 0],
      'forced_last': [self.forced_last or 0],
      'biases': [one for ids, _ in self.biases for one in ids],
      'suppress': self.suppress,
      'suppress_first': self.suppress_first,
    }
    if not all(len(ids) for ids, _ in self.biases):
      raise ConfigError(
        f'biases={tuple(self.biases)} has a sequence without ids; remove it'
      )
    for name, ids in named.items():
      wrong = [one for one in ids if not 0 <= one < vocab]
      if wrong:
        raise ConfigError(
          f'{name} has the ids {wrong}; tokens have the ids 0 to {vocab - 1}'
        )


NONE = LogitProcessors()


def _mark_ids(ids: int | Sequence[int], vocab: int) -> Array:
  """Which of V tokens are among `ids`, [1, V]."""
  return jnp.asarray(np.isin(np.arange(vocab), np.asarray(ids, int)))[None]


def _force(logits: Array, where: Array, token: int) -> Array:
  """Leaves one token alone in logits [B, V], where `where` [B, 1]."""
  only = jnp.where(_mark_ids(token, logits.shape[-1]), 0.0, -jnp.inf)
  return jnp.where(where, only, logits)


def _add_bias(
  logits: Array, history: History, ids: Sequence[int], bias: float
) -> Array:
  *before, token = ids
  tokens, real = history.last(len(before))
  matches = real & jnp.all(tokens == jnp.asarray(before, int)[None], axis=1)
  added = jnp.where(matches, bias, 0.0)  # [B]
  return logits.at[:, token].add(added)


def _changes(penalty: float | Array, neutral: float) -> bool:
  """Whether a penalty may change anything; one of each example may."""
  return not _is_number(penalty) or penalty != neutral


def _mark_occurring(tokens: Array, mask: Array, vocab: int) -> Array:
  """Which of V tokens occur in rows [B, S], [B, V]."""
  return _count(tokens, mask, vocab) > 0


def _count(tokens: Array, mask: Array, vocab: int) -> Array:
  """How often each of V tokens occurs in rows [B, S], [B, V] int32."""
  # A placeholder of an image need not be one of the V.
  mask = mask & (tokens >= 0) & (tokens < vocab)
  rows = jnp.arange(tokens.shape[0])[:, None]  # [B, 1]
  out = jnp.zeros((tokens.shape[0], vocab), jnp.int32)
  return out.at[rows, jnp.where(mask, tokens, 0)].add(mask.astype(jnp.int32))


def _mark_repeats(history: History, size: int, vocab: int) -> Array:
  """Which tokens would end a run of `size` tokens that occurred, [B, V].

  Of `a b c a` with a size of 2, b: it would repeat `a b`.
  """
  starts = history.tokens.shape[1] - size + 1
  if starts < 1:
    return jnp.zeros((history.tokens.shape[0], vocab), bool)
  end, real = history.last(size - 1)  # [B, size - 1], [B]
  matches = jnp.broadcast_to(real[:, None], (len(real), starts))
  for i in range(size):
    columns = slice(i, i + starts)
    matches &= history.mask[:, columns]
    if i < size - 1:
      matches &= history.tokens[:, columns] == end[:, i : i + 1]
  return _mark_occurring(history.tokens[:, size - 1 :], matches, vocab)
