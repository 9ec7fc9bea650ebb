"""Answers to many conversations at once, on one device, by one thread.

Answers begin when they are asked for, if a row is free, and each is written
together with those that are being written. The sizes of all arrays are among a
few, so that programs are compiled at first and then no more: prompts of powers
of two, one row or all, and as many slots as the longest text needs.
"""

import collections
import dataclasses
import threading
import traceback
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmjax.decoders import continuous_batching, streaming
from mmjax.errors import ConfigError
from mmjax.inference import chat_models

# The number of slots is a power of two from this on, with so many to spare
# after a move.
_FEWEST_SLOTS, _SPARE = 128, 64


class FullError(Exception):
  """More answers wait than may."""


class ClosedError(Exception):
  """The engine has ended, or ends."""

  def __init__(self):
    super().__init__('the server is shutting down')


@dataclasses.dataclass(frozen=True)
class Token:
  """A token of an answer.

  Attributes:
    id: its id.
    log_prob: its log-probability.
    likeliest: ids and log-probabilities of the likeliest tokens, as many as
      were asked for.
  """

  id: int
  log_prob: float
  likeliest: tuple[tuple[int, float], ...] = ()


@dataclasses.dataclass(eq=False)
class Answer:
  """One answer that is asked for.

  Attributes:
    prompt: the conversation. Answers with the same prompt, next to each other,
      share its computation.
    settings: how it is sampled; `max_new_tokens` is at least 1, and within the
      model's length.
    stop: strings that end it.
    num_likeliest: how many of the likeliest tokens are reported; -1 for no
      tokens at all.
    notify: called in the engine's thread with each piece of the text and its
      tokens, and at last with what ended it: 'stop', 'length' or an exception.
    cancelled: set by whoever doesn't need it any more.
    num_tokens: how many tokens have been written, that of its end included.
  """

  prompt: chat_models.PreparedPrompt
  settings: continuous_batching.RowSettings
  notify: Callable[[str, list[Token], str | Exception | None], None]
  stop: tuple[str, ...] = ()
  num_likeliest: int = -1
  cancelled: bool = False
  num_tokens: int = 0
  _stream: streaming.Stream | None = None
  _pieces: list[str] = dataclasses.field(default_factory=list)
  _tokens: list[Token] = dataclasses.field(default_factory=list)

  def begin(self, decode: Callable[[list[int]], str]) -> None:
    """Prepares for its first token."""
    self._stream = streaming.Stream(decode, self._pieces.append, self.stop)

  def add(self, token: Token, end_ids: tuple[int, ...]) -> str | None:
    """Takes a token; returns why the answer ends, or None."""
    self.num_tokens += 1
    if token.id in end_ids:
      return 'stop'
    if self.num_likeliest >= 0:
      self._tokens.append(token)
    if self._stream.add(token.id):
      return 'stop'
    is_last = self.num_tokens >= int(self.settings.max_new_tokens)
    return 'length' if is_last else None

  def report(self, end: str | Exception | None = None) -> None:
    """Passes on what is new."""
    if end is not None and self._stream is not None:
      self._stream.finish()
    text, tokens = ''.join(self._pieces), list(self._tokens)
    if text or end is not None:
      self._pieces.clear()
      self._tokens.clear()
      self.notify(text, tokens, end)


class Engine:
  """Writes answers in a thread of its own.

  Args:
    model: that answers.
    batch_size: most answers that are written at once.
    max_waiting: most answers that wait for a row.
  """

  def __init__(
    self,
    model: chat_models.ChatModel,
    batch_size: int = 8,
    max_waiting: int = 256,
  ):
    self.model, self.batch_size = model, batch_size
    self._max_waiting = max_waiting
    self._programs = _Programs(model)
    self._waiting: collections.deque[Answer] = collections.deque()
    self._changed = threading.Condition()
    self._is_closing = False
    self._forget()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  @property
  def capacity(self) -> int:
    """Largest number of answers that are written or wait at once."""
    return self._max_waiting + self.batch_size

  def submit(self, *answers: Answer) -> None:
    """Asks for answers.

    Raises:
      FullError: if too many wait already.
      ClosedError: after `close`.
    """
    with self._changed:
      if self._is_closing:
        raise ClosedError
      number = len(self._waiting)
      if len(self._live) + number + len(answers) > self.capacity:
        raise FullError(f'{number} answers are waiting already; try again')
      self._waiting.extend(answers)
      self._changed.notify()

  def close(self) -> None:
    """Ends after the present step; answers then end with `ClosedError`."""
    with self._changed:
      self._is_closing = True
      self._changed.notify()
    self._thread.join()

  def _forget(self) -> None:
    self._state: continuous_batching.LiveBatch | None = None
    self._live: dict[int, Answer] = {}
    self._prefilled: tuple[Any, Any] = (None, None)
    self._index = self._num_slots = self._num_rows = 0

  def _run(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(
          lambda: self._waiting or self._live or self._is_closing
        )
        if self._is_closing:
          break
      try:
        self._admit()
        if self._live:
          self._advance()
      except Exception as error:  # A bug or no memory; later answers may work.
        traceback.print_exc()
        self._end_all(error)
    self._end_all(ClosedError())

  def _end_all(self, error: Exception) -> None:
    answers = list(self._live.values())
    with self._changed:
      if self._is_closing:
        answers += self._waiting
        self._waiting.clear()
    self._forget()
    for answer in answers:
      answer.report(error)

  def _admit(self) -> None:
    """Begins answers that wait, while rows are free."""
    while True:
      with self._changed:
        while self._waiting and self._waiting[0].cancelled:
          self._waiting.popleft()
        if not self._waiting or len(self._live) == self.batch_size:
          return
        answer, others = self._waiting.popleft(), len(self._waiting)
      try:
        prompt = self._prefill(answer.prompt)
      except Exception as error:  # Of this conversation alone.
        if not isinstance(error, ConfigError):
          traceback.print_exc()
        answer.report(error)
        continue
      try:
        self._insert(answer, prompt, others)
      except Exception as error:  # It is not among those that are live yet.
        answer.report(error)
        raise

  def _prefill(
    self, prompt: chat_models.PreparedPrompt
  ) -> continuous_batching.Prefilled:
    before, prefilled = self._prefilled
    if before is not prompt:
      prefilled = self._programs.prefill(self.model.params, prompt.batch)
      self._prefilled = prompt, prefilled
    return prefilled

  def _insert(
    self, answer: Answer, prompt: continuous_batching.Prefilled, others: int
  ) -> None:
    """Inserts a text into a free row."""
    if self._state is None:
      self._num_rows = self.batch_size if others else 1
      self._state = continuous_batching.make_empty(
        prompt, answer.settings, self._num_rows
      )
      self._num_slots = self._index = prompt.tokens.shape[1]
    size = prompt.tokens.shape[1]
    needs_rows = len(self._live) == self._num_rows
    if needs_rows or self._index < size or self._index == self._num_slots:
      rows = self.batch_size if needs_rows else self._num_rows
      self._arrange(rows, least=size)
    row = min(set(range(self._num_rows)) - set(self._live))
    self._state = self._programs.insert(
      self._state, np.int32(row), prompt, answer.settings
    )
    answer.begin(self.model.decode)
    self._live[row] = answer

  def _arrange(self, num_rows: int, least: int = 0) -> None:
    """Resizes the live batch, and moves its texts where there is room for more.

    Args:
      num_rows: number of rows afterwards.
      least: smallest index afterwards.
    """
    lengths = [a.prompt.length + a.num_tokens for a in self._live.values()]
    end = max([least, *lengths])
    most = self.model.max_length + _SPARE
    num_slots = _FEWEST_SLOTS
    while num_slots < min(end + _SPARE, most):
      num_slots *= 2
    num_slots = min(num_slots, most)
    rows = np.full(num_rows, -1, np.int32)
    for row in self._live:
      rows[row] = row
    shift = np.int32(self._index - end)
    self._state = self._programs.arrange(self._state, rows, shift, num_slots)
    self._index, self._num_slots = end, num_slots
    self._num_rows = num_rows

  def _advance(self) -> None:
    """Writes a token of each live answer."""
    for row, answer in list(self._live.items()):
      if answer.cancelled:
        del self._live[row]
    if not self._live:
      self._forget()
      return
    if self._index == self._num_slots:
      self._arrange(self._num_rows)
    alive = np.zeros(self._num_rows, bool)
    alive[list(self._live)] = True
    wanted = max(answer.num_likeliest for answer in self._live.values())
    self._state, step = self._programs.advance(
      self.model.params, self._state, alive, np.bool_(wanted > 0)
    )
    self._index += 1
    step = jax.device_get(step)
    for row, answer in list(self._live.items()):
      token = _get_token(step, row, max(0, answer.num_likeliest))
      end = answer.add(token, self.model.end_ids)
      answer.report(end)
      if end is not None:
        del self._live[row]
    if not self._live:
      self._forget()


class _Programs:
  """The compiled functions of an engine."""

  def __init__(self, model: chat_models.ChatModel):
    module, logit_processors = model.module, dict(model.logit_processors)

    def prefill(params: Any, batch: Any) -> continuous_batching.Prefilled:
      logits, cache, (tokens, _) = module.apply(
        {'params': params}, batch, 'continue', 0, method='prefill'
      )
      return continuous_batching.Prefilled(logits, cache, tokens)

    def advance(
      params: Any,
      state: continuous_batching.LiveBatch,
      alive: Any,
      with_likeliest: Any,
    ) -> tuple[continuous_batching.LiveBatch, continuous_batching.Step]:
      def step(tokens: Any, cache: Any, mask: Any) -> Any:
        variables = {'params': params}
        return module.apply(
          variables, tokens, cache, mask, method='decode_step'
        )

      return continuous_batching.advance(
        step,
        state,
        alive,
        eos_id=model.end_ids,
        logit_processors=logit_processors,
        with_likeliest=with_likeliest,
      )

    self.prefill = jax.jit(prefill)
    # The states before are not needed: their memory is used again.
    self.advance = jax.jit(advance, donate_argnums=1)
    self.insert = jax.jit(continuous_batching.insert, donate_argnums=0)
    self.arrange = jax.jit(continuous_batching.arrange, static_argnums=3)


def _get_token(step: continuous_batching.Step, row: int, number: int) -> Token:
  likeliest = zip(
    step.likeliest[row, :number].tolist(),
    step.likeliest_log_probs[row, :number].tolist(),
    strict=True,
  )
  return Token(
    int(step.tokens[row]), float(step.log_probs[row]), tuple(likeliest)
  )


def make_settings(
  model: chat_models.ChatModel,
  *,
  seed: int,
  number: int,
  max_new_tokens: int,
  **changed: float,
) -> continuous_batching.RowSettings:
  """Settings of one answer: those that are given, else the model's.

  Args:
    model: that answers.
    seed: seed of sampling.
    number: which of several answers with the seed it is, from 0 on.
    max_new_tokens: most tokens to write.
    **changed: `temperature`, `top_k`, `top_p`, `repetition_penalty`,
      `presence_penalty` and `frequency_penalty`.
  """
  values = {
    'presence_penalty': 0.0,
    'frequency_penalty': 0.0,
    **model.sampling,
    **changed,
  }
  return continuous_batching.RowSettings(
    key=np.asarray(_make_key(seed, number)),
    max_new_tokens=np.int32(max_new_tokens),
    top_k=np.int32(values.pop('top_k')),
    **{name: np.float32(value) for name, value in values.items()},
  )


@jax.jit
def _fold(data: Any, number: Any) -> Any:
  key = jax.random.wrap_key_data(data)
  return jax.random.key_data(jax.random.fold_in(key, number))


def _make_key(seed: int, number: int) -> Any:
  return _fold(jax.random.key_data(jax.random.key(seed)), number)
