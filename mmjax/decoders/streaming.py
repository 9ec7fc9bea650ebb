"""Texts while they are written: shown piece by piece, ended at stop strings."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError

# What a decoder of bytes writes for the first bytes of a character.
_HALF = '\N{REPLACEMENT CHARACTER}'


class Stream:
  """Makes text of tokens as they come, and ends it at a stop string.

  An `on_tokens` of `mmjax.decoders.sample` for one text.

  Args:
    decode: function from all tokens of an answer to its text.
    write: called with each new piece of the text.
    stop: strings that end the text, and don't belong to it.

  Attributes:
    text: the whole text so far.
  """

  def __init__(
    self,
    decode: Callable[[list[int]], str],
    write: Callable[[str], None],
    stop: Sequence[str] = (),
  ):
    self._decode, self._write = decode, write
    self._stop = check_stop(stop)
    self.start()

  def start(self) -> None:
    """Begins a new text."""
    self._ids: list[int] = []
    self._ended = False
    self.text = ''

  def finish(self) -> str:
    """Writes what was held back; returns the whole text."""
    if not self._ended:
      self._write_up_to(self._decode(self._ids))
    return self.text

  def add(self, token: int) -> bool:
    """Takes the next token; returns whether the text ends."""
    self._ids.append(token)
    text = self._decode(self._ids)
    is_found = any(stop in text for stop in self._stop)
    if is_found and not self._ended:
      self._write_up_to(cut(text, self._stop))
      self._ended = True
    if not self._ended:
      self._write_up_to(text[: len(text) - self._count_held(text)])
    return self._ended

  def __call__(self, tokens: np.ndarray) -> np.ndarray:
    """Takes the next token [1]; returns whether the text ends, [1]."""
    return np.array([self.add(int(tokens[0]))])

  def _count_held(self, text: str) -> int:
    """Characters at the end that may become others, or a stop string."""
    half = len(text) - len(text.rstrip(_HALF))
    starts = (
      size
      for stop in self._stop
      for size in range(1, len(stop))
      if text.endswith(stop[:size])
    )
    return max([half, *starts])

  def _write_up_to(self, text: str) -> None:
    if len(text) > len(self.text):
      self._write(text[len(self.text) :])
      self.text = text


class StopStrings:
  """Ends each text of a batch at its first stop string.

  An `on_tokens` of `mmjax.decoders.sample`. It is a constant of the compiled
  program, so there is one for each tokenizer, by `stop_strings_of`; `start`
  sets what it looks for.

  Args:
    decode: function from all tokens of a text to the text.
  """

  def __init__(self, decode: Callable[[list[int]], str]):
    self._decode = decode

  def start(
    self, number: int, stop: Sequence[str], end_ids: Collection[int]
  ) -> None:
    """Begins a new batch.

    Args:
      number: number of texts B.
      stop: strings that end a text.
      end_ids: ids that end a text.
    """
    self._streams = [
      Stream(self._decode, lambda _: None, stop) for _ in range(number)
    ]
    self._ended = np.zeros(number, bool)
    self._end_ids = np.asarray(sorted(end_ids), int)

  def __call__(self, tokens: np.ndarray) -> np.ndarray:
    """Takes the next tokens [B]; returns which texts end, [B]."""
    self._ended |= np.isin(tokens, self._end_ids)
    for row, stream in enumerate(self._streams):
      if not self._ended[row]:
        self._ended[row] = stream.add(int(tokens[row]))
    return self._ended.copy()


@functools.lru_cache(maxsize=8)
def stop_strings_of(tokenizer: Any) -> StopStrings:
  """The `StopStrings` of a tokenizer, the same at each call."""
  return StopStrings(tokenizer.decode)


def check_stop(
  stop: str | Sequence[str], settings: Collection[str] = ()
) -> tuple[str, ...]:
  """Stop strings as a tuple.

  Args:
    stop: one string or several.
    settings: names of the caller's settings of generation.

  Raises:
    ConfigError: if one is empty, or `on_tokens` is set beside them.
  """
  stop = (stop,) if isinstance(stop, str) else tuple(stop)
  if '' in stop:
    raise ConfigError("a stop string is ''; give a text, or leave it out")
  if stop and 'on_tokens' in settings:
    raise ConfigError(
      'on_tokens and stop exclude each other; end the text in on_tokens'
    )
  return stop


def cut(text: str, stop: Sequence[str]) -> str:
  """A text up to the first of its stop strings."""
  places = [place for one in stop if (place := text.find(one)) >= 0]
  return text[: min(places, default=len(text))]
