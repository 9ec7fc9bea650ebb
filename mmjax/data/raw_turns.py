"""Turns of LLaVA, ShareGPT, chat templates and the_cauldron."""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from mmjax.data import captions, text_files
from mmjax.errors import ConfigError

_TURNS = ('conversations', 'messages')
# Fields that may also hold pairs of a question and its answer, in objects with
# the keys `_PAIR`, as in `the_cauldron`. As captions they have another name.
_PAIRS = ('texts', 'captions', 'caption')
_PAIR = ('user', 'assistant')
# Fields that a conversation gives by itself; others are metadata of its record.
_OWN = (
  *(*_TURNS, 'id', 'image', 'images', 'question', 'answer', 'answers'),
  *('caption', 'captions', 'text', 'texts', 'type'),
)
# What stands in a text for a file, in LLaVA and in LLaMA-Factory.
_PLACEHOLDER = re.compile(r'\s*<(?:image|video|audio)>\s*')
_OTHERS = re.compile(r'\s*<(video|audio)>\s*')
_PLACED = re.compile(r'\n?<(image|video|audio)>\n?')
# Roles of other formats, by those of `mmjax.data.features.Turns`.
_ROLES = {
  'system': ('system',),
  'user': ('user', 'human'),
  'assistant': ('assistant', 'gpt', 'model'),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}
# Types of the parts of messages, by the word of a placeholder.
_PARTS_OF = {
  'image': ('image', 'image_url'),
  'video': ('video', 'video_url'),
  'audio': ('audio', 'audio_url', 'input_audio'),
}
# What a field of each holds, in messages and as a kind.
_FIELDS = {'video': 'videos', 'audio': 'sounds'}


def _is_conversation(fields: Mapping[str, Any]) -> bool:
  """Whether a row has turns or pairs, and no caption or question."""
  if _find_pairs(fields) is not None:
    return True
  has_texts = any(
    captions.is_caption_field(field) or field.startswith('question')
    for field in fields
  )
  return not has_texts and any(
    isinstance(fields.get(key), list) for key in _TURNS
  )


def read_first_turns(entry: Any) -> dict[str, Any]:
  """Reads a conversation's fields; without `image` where no turn has one.

  Turns are objects with a role and a text, under `conversations` or `messages`,
  or pairs {'user': question, 'assistant': answer} under `texts`.

  Raises:
    ConfigError: if there are no turns, no answer follows a question, or a turn
      has a placeholder of an image that the conversation doesn't name.
  """
  turns = _find_turns(entry) if isinstance(entry, dict) else None
  if not isinstance(turns, list):
    raise ConfigError(
      'there are neither `conversations` nor `messages`, nor `texts` of user '
      'and assistant'
    )
  fields = {}
  for turn in turns:
    role, text = _parse_turn(turn)
    if role == 'user' and 'question' not in fields:
      fields['question'] = _strip_placeholders(text)
    elif role == 'assistant' and 'question' in fields:
      fields['answer'] = text
      break
  if 'answer' not in fields:
    raise ConfigError('no answer follows a question among its turns')
  kept = {
    key: value
    for key, value in entry.items()
    if key not in _OWN and isinstance(value, str | int | float)
  }
  fields = kept | fields
  fields |= {'type': entry.get('type', 'conversation'), 'turns': len(turns)}
  images = list(
    dict.fromkeys(image for turn in turns for image in _find_images(turn))
  )
  paths = [image for image in images if image]
  image = entry.get('image') or entry.get('images') or paths
  if image:
    return fields | {'image': image}
  if images:
    raise ConfigError('its turns have an <image>, but it names no image')
  return fields


def replace(fields: dict[str, Any], further: Collection[str]) -> dict[str, Any]:
  """Replaces the turns of a row, if it has any, by a question and its answer.

  Args:
    fields: the row's values by mmjax's names.
    further: columns that fill further fields; turns in one of them stay.

  Raises:
    ConfigError: as `read_first_turns` does.
  """
  if not _is_conversation(fields):
    return fields
  if not {*_TURNS, *_PAIRS}.isdisjoint(further):
    unread = set(_PAIRS) - set(further)
    return {k: v for k, v in fields.items() if k not in unread}
  turns = read_first_turns(fields)
  rest = {
    key: value
    for key, value in fields.items()
    if key not in (*_TURNS, 'caption', 'captions', 'image')
  }
  return rest | turns


def read_turns(
  value: Any, fields: Mapping[str, str] = MappingProxyType({'image': 'image'})
) -> list[dict[str, Any]]:
  """Reads turns or pairs as the values of `mmjax.data.features.Turns`.

  >>> read_turns([{'from': 'human', 'value': '<image>\\nwhat is it?'}])
  [{'role': 'user', 'content': [{'field': 'image'}, 'what is it?']}]

  A placeholder `<image>` refers to the field of images, with the line break
  beside it, and so does a part of the type `image` or `image_url`; `<video>`
  and parts of the type `video` or `video_url` to the field of videos; `<audio>`
  and parts of the type `audio`, `audio_url` or `input_audio` to the field of
  sounds. Placeholders of videos and sounds without such a field are left out. A
  content may also be a list with objects {'field': NAME}, which stay.

  Args:
    value: the turns.
    fields: the fields that have their images, videos and sounds, by the words
      of their placeholders, 'image', 'video' and 'audio'.

  Raises:
    ConfigError: if a turn has no role or no text, or a part is a video or a
      sound and no field has these.
  """
  pairs = value if isinstance(value, list) else [value]
  turns = _split_pairs(pairs) if all(map(is_pair, pairs)) else pairs
  out = []
  for turn in turns:
    content = turn.get('content') if isinstance(turn, dict) else None
    if isinstance(content, list) and all(map(_is_own, content)):
      out.append({'role': _read_role(turn), 'content': content})
      continue
    content = _read_content(turn, fields)
    out.append({'role': _read_role(turn), 'content': content})
  return out


def list_media(value: Any, word: str = 'image') -> list[Any] | None:
  """The images, videos or sounds in parts of messages; None without messages.

  >>> list_media(
  ...   [
  ...     {
  ...       'role': 'user',
  ...       'content': [{'type': 'image_url', 'image_url': {'url': 'a.png'}}],
  ...     }
  ...   ]
  ... )
  ['a.png']

  Args:
    value: the messages.
    word: 'image', 'video' or 'audio'.

  Raises:
    ConfigError: if a part of the type has none.
  """
  turns = value if isinstance(value, list) else []
  if not turns or not all(map(_is_message, turns)):
    return None
  found = []
  for turn in turns:
    for part in turn['content'] if isinstance(turn['content'], list) else []:
      if _find_word(part) == word:
        source = _find_source(part, word)
        if not source:
          raise ConfigError(
            f'a part of a turn has no {word}: {text_files.quote(part)}'
          )
        found.append(source)
  return found


def _is_message(turn: Any) -> bool:
  return isinstance(turn, dict) and {'role', 'content'} <= turn.keys()


def _find_word(part: Any) -> str | None:
  """The word of the placeholder that a part of a message is; None for texts."""
  kind = part.get('type') if isinstance(part, dict) else None
  return next((w for w, kinds in _PARTS_OF.items() if kind in kinds), None)


def _find_source(part: Mapping[str, Any], word: str) -> Any:
  """The file of a part: a path or URL, or the `datasets` library's object."""
  keys = (*_PARTS_OF[word], 'url', 'path')
  source = next((part[key] for key in keys if part.get(key)), None)
  if isinstance(source, dict) and isinstance(source.get('data'), str):
    return f'data:audio/wav;base64,{source["data"]}'  # Of OpenAI's input_audio.
  if isinstance(source, dict):
    return source.get('url') or source
  return source


def _read_content(turn: Any, fields: Mapping[str, str]) -> list[Any]:
  """The content of a turn: texts, and references to images and others.

  Args:
    turn: the turn.
    fields: by the word of a placeholder, the field that it refers to.
  """
  role, text = _parse_turn(turn)
  parts = turn.get('value', turn.get('content'))
  if isinstance(parts, list):
    content: list[Any] = []
    for part in parts:
      word = _find_word(part)
      if word in fields:
        content.append({'field': fields[word]})
      elif word:
        kind = _FIELDS[word]
        raise ConfigError(
          f'a turn of the {role} has a part of the type {part["type"]}, but no '
          f'field has the {kind}; import them too, as in '
          f'--fields={kind}={kind}:COLUMN'
        )
      elif isinstance(part, dict) and isinstance(part.get('text'), str):
        content.append(part['text'])
      elif isinstance(part, str):
        content.append(part)
      else:
        raise ConfigError(
          f'a turn of the {role} has a part that is neither a text nor an '
          f'image: {text_files.quote(part)}'
        )
    return content
  kept = _OTHERS.sub(lambda m: m[0] if m[1] in fields else ' ', text)
  pieces = _PLACED.split(kept)
  if len(pieces) == 1:
    return [_strip_placeholders(text)]
  content = []
  for at, piece in enumerate(pieces):
    if at % 2:  # The word of a placeholder.
      content.append({'field': fields[piece]})
    elif piece.strip():
      content.append(piece)
  return content


def _is_own(item: Any) -> bool:
  """Whether an item of a content is one of `mmjax.data.features.Turns`."""
  return isinstance(item, str) or (
    isinstance(item, dict) and item.keys() == {'field'}
  )


def _find_turns(entry: Mapping[str, Any]) -> Any:
  """Returns a conversation's turns, pairs as two turns each."""
  pairs = _find_pairs(entry)
  if pairs is not None:
    return _split_pairs(pairs)
  return next((entry[key] for key in _TURNS if entry.get(key)), None)


def _split_pairs(pairs: list[dict]) -> list[dict]:
  return [
    {'role': role, 'content': pair[role]} for pair in pairs for role in _PAIR
  ]


def _find_pairs(entry: Mapping[str, Any]) -> list[dict] | None:
  for key in _PAIRS:
    pairs = entry.get(key)
    pairs = pairs if isinstance(pairs, list) else [pairs]
    if pairs and all(map(is_pair, pairs)):
      return pairs
  return None


def is_pair(value: Any) -> bool:
  """Whether a value is an object of a question and its answer."""
  return isinstance(value, dict) and all(
    isinstance(value.get(role), str) for role in _PAIR
  )


def _parse_turn(turn: Any) -> tuple[str, str]:
  """Returns the role and the text of a turn."""
  if not isinstance(turn, dict):
    raise ConfigError(
      f'a turn should be an object, not {text_files.quote(turn)}'
    )
  text = turn.get('value', turn.get('content'))
  if isinstance(text, list):  # Parts: texts and images.
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ' '.join(part for part in parts if isinstance(part, str))
  if not isinstance(text, str):
    raise ConfigError(f'a turn has no text: {text_files.quote(turn)}')
  return _read_role(turn), text


def _read_role(turn: Mapping[str, Any]) -> str:
  """Returns a turn's role; one of another name stays as it is."""
  role = turn.get('from', turn.get('role'))
  if not isinstance(role, str):
    raise ConfigError(f'a turn has no role: {text_files.quote(turn)}')
  return _ROLE_OF.get(role, role)


def _strip_placeholders(text: str) -> str:
  return _PLACEHOLDER.sub(' ', text).strip()


def _find_images(turn: Any) -> Iterator[str]:
  """Yields the path of each image of a turn; '' for a placeholder."""
  if '<image>' in _parse_turn(turn)[1]:
    yield ''
  parts = turn.get('value', turn.get('content'))
  for part in parts if isinstance(parts, list) else []:
    if _find_word(part) == 'image':
      url = part.get('image') or part.get('image_url')
      if isinstance(url, dict):
        url = url.get('url')
      yield url if isinstance(url, str) else ''
