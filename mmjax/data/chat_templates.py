"""Chat templates of published models: conversations to texts.

A chat model was trained on conversations written in one form: where a turn
begins and ends, what stands before an answer. Its folder has that form as a
Jinja template, which is rendered here as transformers does it.
"""

import dataclasses
import datetime
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from mmjax.data import template_engine
from mmjax.errors import ConfigError

FILE = 'chat_template.jinja'
# Further templates, by the names of their files.
FOLDER = 'additional_chat_templates'
SETTINGS = 'tokenizer_config.json'
# Older files of processors, and tokenizer_config.json, have it under this key.
_KEY = 'chat_template'
_FILES = ('chat_template.json', 'processor_config.json', SETTINGS)
_TOKENS = ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
# Names of what a model thinks before it answers; templates read the first.
_REASONING = ('reasoning_content', 'thinking', 'reasoning')
_PROBE = 'probe'

Message = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """The form of a model's conversations.

  A message is {'role': 'user', 'content': 'what is it?'}; a content may also
  be a list of parts, {'type': 'text', 'text': 'what is it?'} and
  {'type': 'image'}, where the template reads them. Other keys, such as
  `tool_calls`, are left to the template.

  Attributes:
    named: Jinja templates by name; the one that is used has the name
      'default'.
    tokens: special tokens that templates name, such as `bos_token`.
    file: where the templates stand, for messages.
  """

  named: Mapping[str, str]
  tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
  file: str = FILE

  def choose(self, name: str | None = None, tools: Any = None) -> str:
    """The source of a template.

    Args:
      name: its name; None for 'tool_use' if there are tools and such a
        template, else 'default'.
      tools: descriptions of tools, or None.

    Raises:
      ConfigError: if there is none.
    """
    if name is None:
      uses_tools = tools is not None and 'tool_use' in self.named
      name = 'tool_use' if uses_tools else 'default'
    if name not in self.named:
      raise ConfigError(
        f'{self.file} has no chat template {name!r}; use one of '
        f'{", ".join(sorted(self.named))}'
      )
    return self.named[name]

  def render(
    self,
    messages: Sequence[Message],
    *,
    name: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    now: datetime.datetime | None = None,
    marks: bool = False,
    **variables: Any,
  ) -> str:
    """Writes a conversation as the text that the model reads.

    Args:
      messages: the conversation.
      name: name of the template; None for the default.
      tools: descriptions of tools, as JSON schemas, that the template writes.
      add_generation_prompt: whether what stands before an answer comes last, so
        that the model writes the answer.
      now: the time, for templates that write the date; None for the clock's.
      marks: as in `template_engine.render`.
      **variables: further variables of the template, such as `date_string` or
        `enable_thinking`.

    Raises:
      ConfigError: if there is no message, one is not plain data with a role, or
        the template fails; it names the turn.
    """
    source = self.choose(name, tools)
    plain = _to_plain_messages(messages)
    variables = {
      'documents': None,
      **self.tokens,
      **_to_plain(variables, 'a variable of the chat template'),
      'tools': _to_plain(tools, 'a tool'),
      'add_generation_prompt': add_generation_prompt,
    }

    def render_first(number: int) -> str:
      return template_engine.render(
        source,
        {**variables, 'messages': plain[:number]},
        now=now,
        marks=marks,
      )

    try:
      return render_first(len(plain))
    except jinja2.TemplateSyntaxError as error:
      raise ConfigError(
        f'{self.file}, line {error.lineno}: the chat template is not Jinja: '
        f'{error}'
      ) from error
    except Exception as error:  # A template can raise anything.
      number = _find_failing(render_first, len(plain), error)
      raise ConfigError(
        f'turn {number} ({plain[number - 1]["role"]}): the chat template of '
        f'{self.file} refuses the conversation: {error}'
      ) from error

  @functools.cached_property
  def takes_parts(self) -> bool:
    """Whether a content may be a list of parts, such as texts and images."""
    return self._writes([{'type': 'text', 'text': _PROBE}])

  @functools.cached_property
  def takes_texts(self) -> bool:
    """Whether a content may be a text."""
    return self._writes(_PROBE)

  def make_content(
    self,
    items: Sequence[str | Message],
    placeholders: Mapping[str, str] = MappingProxyType({}),
  ) -> Any:
    """A message's content in the form that the template reads.

    A template of texts alone, as a language model without images has, gets an
    image, a video or a sound as its placeholder on a line of its own (Liu et
    al. 2023, table 2).

    Args:
      items: texts, and parts such as {'type': 'image'}, in their order.
      placeholders: tokens that stand for parts, by their type.

    Raises:
      ConfigError: for a part in a template that reads texts alone.
    """
    parts = [item for item in items if not isinstance(item, str)]
    if not parts and self.takes_texts:
      return ' '.join(map(str, items))
    are_known = all(part.get('type') in placeholders for part in parts)
    if placeholders and are_known and not self.takes_parts:
      return '\n'.join(
        item if isinstance(item, str) else placeholders[item['type']]
        for item in items
      )
    if not self.takes_parts:
      kinds = ', '.join(str(part.get('type')) for part in parts) or 'text'
      raise ConfigError(
        f'the chat template of {self.file} reads no parts of the type {kinds}; '
        'write a text without them'
      )
    return [
      {'type': 'text', 'text': item} if isinstance(item, str) else item
      for item in items
    ]

  def _writes(self, content: Any) -> bool:
    try:
      text = self.render([{'role': 'user', 'content': content}])
    except ConfigError:
      return False
    return _PROBE in text and "'text'" not in text and '"text"' not in text

  def save(self, folder: Path) -> None:
    """Writes the files that `load` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(dict(self.tokens), indent=2, sort_keys=True)
    (folder / SETTINGS).write_text(settings)
    for name, source in self.named.items():
      path = folder / FILE if name == 'default' else None
      path = path or folder / FOLDER / f'{name}.jinja'
      path.parent.mkdir(exist_ok=True)
      path.write_text(source, encoding='utf-8')


def load(folder: Path, tokens: Mapping[str, str]) -> ChatTemplate | None:
  """The chat template of a folder; None if it has none.

  Args:
    folder: that of a published model, of its tokenizer, or of a run.
    tokens: special tokens, where no file names them.
  """
  names = [FILE, *_FILES]
  paths = [folder / name for name in names if (folder / name).is_file()]
  paths += sorted((folder / FOLDER).glob('*.jinja'))
  return find(
    {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths},
    tokens,
  )


def find(
  files: Mapping[str, bytes], tokens: Mapping[str, str]
) -> ChatTemplate | None:
  """The chat template among a folder's files; None if there is none.

  As in transformers, chat_template.jinja comes before chat_template.json,
  processor_config.json and tokenizer_config.json.

  Args:
    files: the folder's small files by name.
    tokens: special tokens, where tokenizer_config.json names none.

  Raises:
    ConfigError: if a file is broken, or has something else in the template's
      place.
  """
  own = _read(files, SETTINGS)
  named_tokens = {
    key: value
    for role in _TOKENS
    if (value := _get_token(own.get(key := f'{role}_token')))
  }
  tokens = {**tokens, **named_tokens}
  jinja = {
    Path(name).stem if name != FILE else 'default': source.decode()
    for name, source in files.items()
    if name == FILE or name.startswith(f'{FOLDER}/')
  }
  if jinja:
    return ChatTemplate(jinja, tokens, FILE)
  for name in _FILES:
    value = _read(files, name).get(_KEY)
    if value is not None:
      return ChatTemplate(_read_named(value, name), tokens, name)
  return None


def list_files(files: Iterable[str]) -> list[str]:
  """Those of some names of files that hold nothing but chat templates."""
  return sorted(
    name
    for name in files
    if name in (FILE, _FILES[0]) or name.startswith(f'{FOLDER}/')
  )


def _read(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
  try:
    value = json.loads(files.get(name, b'{}'))
  except ValueError as error:
    raise ConfigError(f'{name} is broken or cut off: {error}') from error
  if not isinstance(value, dict):
    raise ConfigError(f'{name} holds {value!r:.60}, not an object')
  return value


def _get_token(value: Any) -> str | None:
  value = value.get('content') if isinstance(value, dict) else value
  return value if isinstance(value, str) else None


def _read_named(value: Any, file: str) -> dict[str, str]:
  """Templates by name, of a text, an object or a list of objects."""
  if isinstance(value, str):
    return {'default': value}
  if isinstance(value, list) and all(isinstance(item, dict) for item in value):
    value = {item.get('name'): item.get('template') for item in value}
  if not isinstance(value, dict) or not all(
    isinstance(item, str) for item in (*value, *value.values())
  ):
    raise ConfigError(
      f'{file}: {_KEY} is {value!r:.60}, not a template, or a list of objects '
      'of name and template'
    )
  return value


def _to_plain(value: Any, what: str) -> Any:
  """A copy of JSON values alone, so that a template gets no objects."""
  try:
    return json.loads(json.dumps(value))
  except (TypeError, ValueError, RecursionError) as error:
    raise ConfigError(f'{what} is not plain data: {error}') from error


def _to_plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
  if isinstance(messages, str | Mapping) or not messages:
    raise ConfigError(
      f'a conversation is a list of messages, not {messages!r:.60}; such as '
      "[{'role': 'user', 'content': 'what is it?'}]"
    )
  out = []
  for number, message in enumerate(messages, 1):
    role = message.get('role') if isinstance(message, Mapping) else None
    if not isinstance(role, str):
      raise ConfigError(
        f'turn {number} is {message!r:.80}, not an object with a role'
      )
    plain = _to_plain(dict(message), f'turn {number} ({role})')
    plain = {key: value for key, value in plain.items() if value is not None}
    thought = next((plain[k] for k in _REASONING if k in plain), None)
    if thought is not None:
      plain = {'thinking': thought, **plain, _REASONING[0]: thought}
    out.append(plain)
  return out


def _find_failing(render_first: Any, number: int, error: Exception) -> int:
  """The number of the first turn with which a template fails in one way."""
  for first in range(1, number):
    try:
      render_first(first)
    except Exception as other:  # A template can raise anything.
      if str(other) == str(error):
        return first
  return number
