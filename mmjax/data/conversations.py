"""Reads conversations of LLaVA, ShareGPT, chat templates and the_cauldron.

Only the first question of each and its answer are read.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmjax.data import (
  captions,
  image_rows,
  json_files,
  raw_records,
  text_files,
)
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
_PLACEHOLDER = re.compile(r'\s*<image>\s*')
_USER_ROLES = ('human', 'user')
_ASSISTANT_ROLES = ('gpt', 'assistant', 'model')
_IMAGE_PARTS = ('image', 'image_url')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads files with one conversation a line, or a list of them."""
  rows = image_rows.ImageRows(options)
  for path in paths:
    for number, where, entry in json_files.read_entries(path, options.encoding):
      name = f'{path.stem}-{number}'
      try:
        if isinstance(entry, ConfigError):
          raise entry
        fields = read_first_turns(entry)
      except ConfigError as error:
        yield raw_records.make_unreadable(name, where, str(error))
      else:
        yield rows.make_record(path.parent, where, name, fields, file=path)


def is_conversation(fields: Mapping[str, Any]) -> bool:
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


def read_first_turns(entry: Any) -> raw_records.Fields:
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
    if role in _USER_ROLES and 'question' not in fields:
      fields['question'] = _PLACEHOLDER.sub(' ', text).strip()
    elif role in _ASSISTANT_ROLES and 'question' in fields:
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


def _find_turns(entry: Mapping[str, Any]) -> Any:
  """Returns a conversation's turns, pairs as two turns each."""
  pairs = _find_pairs(entry)
  if pairs is not None:
    return [
      {'role': role, 'content': pair[role]} for pair in pairs for role in _PAIR
    ]
  return next((entry[key] for key in _TURNS if entry.get(key)), None)


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
  role = turn.get('from', turn.get('role'))
  text = turn.get('value', turn.get('content'))
  if isinstance(text, list):  # Parts: texts and images.
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ' '.join(part for part in parts if isinstance(part, str))
  if not isinstance(role, str) or not isinstance(text, str):
    raise ConfigError(
      f'a turn has no role or no text: {text_files.quote(turn)}'
    )
  return role, text


def _find_images(turn: Any) -> Iterator[str]:
  """Yields the path of each image of a turn; '' for a placeholder."""
  if '<image>' in _parse_turn(turn)[1]:
    yield ''
  parts = turn.get('value', turn.get('content'))
  for part in parts if isinstance(parts, list) else []:
    if isinstance(part, dict) and part.get('type') in _IMAGE_PARTS:
      url = part.get('image') or part.get('image_url')
      if isinstance(url, dict):
        url = url.get('url')
      url = url if isinstance(url, str) else ''
      yield url.removeprefix('file://')
