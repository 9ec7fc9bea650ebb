"""Reads conversations in the formats of LLaVA, ShareGPT and chat templates.

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
# Fields that a conversation gives by itself; others are metadata of its record.
_OWN = (
  *(*_TURNS, 'id', 'image', 'images', 'question', 'answer', 'answers'),
  *('caption', 'captions', 'text', 'type'),
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
  """Whether a table's row has turns, and no caption or question."""
  has_texts = any(
    captions.is_caption_field(field) or field.startswith('question')
    for field in fields
  )
  return not has_texts and any(
    isinstance(fields.get(key), list) for key in _TURNS
  )


def read_first_turns(entry: Any) -> raw_records.Fields:
  """Reads a conversation's fields; without `image` where no turn has one.

  Raises:
    ConfigError: if there are no turns, no answer follows a question, or a turn
      has a placeholder of an image that the conversation doesn't name.
  """
  turns = isinstance(entry, dict) and (
    entry.get('conversations') or entry.get('messages')
  )
  if not isinstance(turns, list):
    raise ConfigError('there are neither `conversations` nor `messages`')
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
