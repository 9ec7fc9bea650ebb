"""Chats with a trained model, showing its answer while it is written."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.inference import opened as opened_lib
from mmjax.pretrained import language_models

# What a decoder of bytes writes for the first bytes of a character.
_HALF = '\N{REPLACEMENT CHARACTER}'


class Stream:
  """Makes text of tokens as they come, and ends it at a stop string.

  An `on_tokens` of `mmjax.decoders.sample` for one text.

  Args:
    decode: from all tokens of an answer to its text.
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
    if '' in stop:
      raise ConfigError("a stop string is ''; give a text, or leave it out")
    self._decode, self._write = decode, write
    self._stop = tuple(stop)
    self.start()

  def start(self) -> None:
    """Begins a new text."""
    self._ids: list[int] = []
    self._ended = False
    self.text = ''

  def finish(self) -> str:
    """Writes what was held back; returns the whole text."""
    if not self._ended:
      self._add(self._decode(self._ids))
    return self.text

  def __call__(self, tokens: np.ndarray) -> np.ndarray:
    """Takes the next token [1]; says whether the text ends, [1]."""
    self._ids.append(int(tokens[0]))
    text = self._decode(self._ids)
    at = [place for stop in self._stop if (place := text.find(stop)) >= 0]
    if at and not self._ended:
      self._add(text[: min(at)])
      self._ended = True
    if not self._ended:
      self._add(text[: len(text) - self._count_held(text)])
    return np.array([self._ended])

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

  def _add(self, text: str) -> None:
    if len(text) > len(self.text):
      self._write(text[len(self.text) :])
      self.text = text


@dataclasses.dataclass(frozen=True)
class Chat:
  """A conversation with a model.

  Attributes:
    model: the model.
    write: called with each piece of an answer.
    stop: strings that end an answer.
    settings: further settings of writing, such as `max_new_tokens`.
    messages: the conversation so far.
  """

  model: opened_lib.Opened
  write: Callable[[str], None]
  stop: tuple[str, ...] = ()
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)
  messages: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def __post_init__(self):
    can = isinstance(self.model.model, language_models.PublishedWriter)
    if self.model.is_run:
      can = 'chat' in dir(self.model.model)
    if not can:
      raise ConfigError(
        f'{self.model.name} does not chat; give a run of the task chat, or a '
        'published model with a chat template'
      )

  def say(self, content: Any) -> str:
    """Adds a message of the user's; writes and adds the model's answer.

    Args:
      content: a text, or a list of parts with images.

    Raises:
      ConfigError: if the model refuses the conversation, which is then as it
        was before.
    """
    messages = [*self.messages, {'role': 'user', 'content': content}]
    self._stream.start()
    self.model.model.chat(messages, on_tokens=self._stream, **self.settings)
    answer = self._stream.finish().strip()
    self.messages[:] = [*messages, {'role': 'assistant', 'content': answer}]
    return answer

  @functools.cached_property
  def _stream(self) -> Stream:
    # One for all answers, since it is a constant of the compiled program.
    return Stream(self.model.model.tokenizer.decode, self.write, self.stop)
