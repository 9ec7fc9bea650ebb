"""Chat templates of published models, and what they make of messages."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import chat_messages, chat_templates
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  special_tokens,
  tokenizer_classes,
  tokenizer_settings,
)


def find_template(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> chat_templates.ChatTemplate:
  """The chat template of a folder.

  Args:
    files: its small files by name.
    config: all of config.json.

  Raises:
    ConfigError: if there is none, or it is broken.
  """
  named = tokenizer_settings.FILE
  settings = configs.parse(files.get(named, b'{}'), named)
  kind = tokenizer_classes.CLASSES.get(
    tokenizer_classes.find_name(config, settings)
  )
  tokens = special_tokens.read(files, kind.tokens if kind else {})
  template = chat_templates.find(
    files,
    {
      role: token
      for role in tokenizer_settings.ROLES
      if (token := tokens.name(role)) is not None
    },
  )
  if template is None:
    raise ConfigError(
      f"the model's folder has no chat template ({chat_templates.FILE}, or "
      f'chat_template in {named}), so what its conversations look like is not '
      'known; put the published file there, or write the whole prompt with '
      'generate'
    )
  return template


@dataclasses.dataclass(frozen=True)
class RenderedPrompt:
  """A conversation as a chat template writes it, with its media apart.

  Attributes:
    text: the text that the model continues.
    media: its images and videos, in the order of their placeholders.
  """

  text: str
  media: tuple[Any, ...]


def render_prompt(
  template: chat_templates.ChatTemplate,
  messages: Sequence[chat_templates.Message],
  *,
  name: str | None = None,
  tools: Sequence[Mapping[str, Any]] | None = None,
  variables: Mapping[str, Any] | None = None,
) -> RenderedPrompt:
  """Writes messages as the text that the model continues with its answer.

  Args:
    template: the model's.
    messages: messages, as for `mmjax.data.chat_messages.separate`.
    name: name of the template; None for the default.
    tools: descriptions of tools, as JSON schemas.
    variables: further variables of the template.

  Raises:
    ConfigError: if the messages or the template are refused; it names the turn.
  """
  separated = chat_messages.separate(messages)
  text = template.render(
    separated.fit(template),
    name=name,
    tools=tools,
    add_generation_prompt=True,
    **(variables or {}),
  )
  return RenderedPrompt(text, separated.media)


def write_answered(
  template: chat_templates.ChatTemplate,
  messages: Sequence[chat_templates.Message],
  answer: str,
  *,
  name: str | None = None,
  variables: Mapping[str, Any] | None = None,
) -> str:
  """Writes a conversation with an answer to it.

  Args:
    template: the model's.
    messages: messages, as for `render_prompt`.
    answer: what the assistant says.
    name: name of the template; None for the default.
    variables: further variables of the template.

  Raises:
    ConfigError: if the template refuses it, or does not continue the prompt.
  """
  answered = [*messages, {'role': 'assistant', 'content': answer}]
  separated = chat_messages.separate(answered)
  text = template.render(
    separated.fit(template), name=name, **(variables or {})
  )
  prompt = render_prompt(template, messages, name=name, variables=variables)
  if not text.startswith(prompt.text):
    raise ConfigError(
      f'the chat template of {template.file} writes a conversation with an '
      'answer otherwise than one that waits for it, so the answer has no '
      'probability; score texts with logits'
    )
  return text
