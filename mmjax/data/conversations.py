"""Reads conversations as LLaVA, ShareGPT and chat templates write them.

Of each, the first question and its answer are read.
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
_PLACEHOLDER = re.compile(r'\s*<image>\s*')
_ASKS = ('human', 'user')
_ANSWERS = ('gpt', 'assistant', 'model')
_IMAGE_PARTS = ('image', 'image_url')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The conversations of files with one a line, or a list of them."""
  rows = image_rows.ImageRows(options)
  for path in paths:
    for number, where, entry in json_files.entries(path, options.encoding):
      name = f'{path.stem}-{number}'
      try:
        if isinstance(entry, ConfigError):
          raise entry
        fields = first_turns(entry)
      except ConfigError as error:
        yield raw_records.broken(name, where, str(error))
      else:
        yield rows.record(path.parent, where, name, fields)


def is_one(fields: Mapping[str, Any]) -> bool:
  """Whether a table's row has turns, and no other texts that mmjax knows."""
  has_texts = any(
    captions.is_about(field) or field.startswith('question') for field in fields
  )
  return not has_texts and any(
    isinstance(fields.get(key), list) for key in _TURNS
  )


def first_turns(entry: Any) -> raw_records.Fields:
  """The fields of a conversation; without `image` where no turn has one.

  Raises:
    ConfigError: there are no turns, no answer follows a question, or a turn has
      an image that is not there.
  """
  turns = isinstance(entry, dict) and (
    entry.get('conversations') or entry.get('messages')
  )
  if not isinstance(turns, list):
    raise ConfigError('there are neither `conversations` nor `messages`')
  found = {}
  for turn in turns:
    role, text = _turn(turn)
    if role in _ASKS and 'question' not in found:
      found['question'] = _PLACEHOLDER.sub(' ', text).strip()
    elif role in _ANSWERS and 'question' in found:
      found['answer'] = text
      break
  if 'answer' not in found:
    raise ConfigError('no answer follows a question among its turns')
  found |= {'type': entry.get('type', 'conversation'), 'turns': len(turns)}
  marks = list(dict.fromkeys(mark for turn in turns for mark in _marks(turn)))
  named = [mark for mark in marks if mark]
  image = entry.get('image') or entry.get('images') or named
  if image:
    return found | {'image': image}
  if marks:
    raise ConfigError('its turns have an <image>, but it names no image')
  return found


def _turn(turn: Any) -> tuple[str, str]:
  """Who says it, and what."""
  if not isinstance(turn, dict):
    raise ConfigError(
      f'a turn should be an object, not {text_files.shown(turn)}'
    )
  role = turn.get('from', turn.get('role'))
  text = turn.get('value', turn.get('content'))
  if isinstance(text, list):  # Parts, of which some are images.
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ' '.join(part for part in parts if isinstance(part, str))
  if not isinstance(role, str) or not isinstance(text, str):
    raise ConfigError(
      f'a turn has no role or no text: {text_files.shown(turn)}'
    )
  return role, text


def _marks(turn: Any) -> Iterator[str]:
  """A path for each image of a turn; '' where it has none by itself."""
  if '<image>' in _turn(turn)[1]:
    yield ''
  parts = turn.get('value', turn.get('content'))
  for part in parts if isinstance(parts, list) else []:
    if isinstance(part, dict) and part.get('type') in _IMAGE_PARTS:
      named = part.get('image') or part.get('image_url')
      if isinstance(named, dict):
        named = named.get('url')
      named = named if isinstance(named, str) else ''
      yield named.removeprefix('file://')
