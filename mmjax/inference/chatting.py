"""Chats with a trained model, showing its answer while it is written."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from mmjax.decoders import streaming
from mmjax.inference import chat_models
from mmjax.inference import opened as opened_lib


@dataclasses.dataclass(frozen=True)
class ChatSession:
  """A conversation with a model.

  It keeps the messages, and no cache: each answer computes all of them again.

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
    chat_models.check_chats(self.model)

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
  def _stream(self) -> streaming.Stream:
    # One for all answers, since it is a constant of the compiled program.
    return streaming.Stream(
      self.model.model.tokenizer.decode, self.write, self.stop
    )
