"""Fields of imported records besides images, captions and questions."""

import base64
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import (
  audio,
  columns,
  features,
  images,
  number_arrays,
  raw_turns,
  records,
  texts,
  video_files,
)
from mmjax.errors import ConfigError, choose

# Columns that are fields by themselves, if their values end so.
_KNOWN = {
  'sound': ('sound', 'audio', 'audio_path', 'audio_file', 'wav', 'speech'),
  'video': ('video', 'video_path', 'video_file', 'clip', 'mp4'),
}
# Columns of two answers, of which one is preferred, and of what is before both;
# a text in one of them is a turn of this role.
_PREFERENCE = {'prompt': 'user', 'chosen': 'assistant', 'rejected': 'assistant'}
# Endings of the files of these kinds.
ENDINGS = {
  'sound': ('.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif'),
  'video': ('.mp4', '.webm', '.mkv', '.mov', '.avi', '.gif', '.webp'),
}

_DATA_URL = re.compile(r'data:(?:image|video|audio)/[\w.+-]+;base64,')
# What a cell without a value may hold.
_EMPTY = re.compile(r'\s*(\[\s*\]|\{\s*\}|)\s*')

Value = Any
# From a path in the input to the contents of its file.
ReadFile = Callable[[str], bytes]


@dataclasses.dataclass(frozen=True)
class ExtraField:
  """A field that a column fills.

  Attributes:
    name: name of the field.
    kind: kind, one of `features.STORED`.
    column: name of the column.
    images: of turns, the field that has the images in them.
    videos: of turns, the field that has the videos in them; '' for none.
    sounds: the same of sounds.
  """

  name: str
  kind: str
  column: str
  images: str = dataclasses.field(default='image', repr=False)
  videos: str = dataclasses.field(default='', repr=False)
  sounds: str = dataclasses.field(default='', repr=False)

  @property
  def media(self) -> dict[str, str]:
    """Of turns, these fields by the words of their placeholders."""
    fields = {'image': self.images, 'video': self.videos, 'audio': self.sounds}
    return {word: name for word, name in fields.items() if name}


def parse(text: str | None) -> tuple[ExtraField, ...]:
  """Reads `--fields`.

  >>> parse('said=sound:audio_path')
  (ExtraField(name='said', kind='sound', column='audio_path'),)

  Raises:
    ConfigError: if the text has another form, or a kind is unknown.
  """
  found = []
  for part in filter(None, map(str.strip, (text or '').split(','))):
    name, equals, rest = (piece.strip() for piece in part.partition('='))
    kind, colon, column = (piece.strip() for piece in rest.partition(':'))
    if not (name and equals and kind and colon and column):
      raise ConfigError(
        f'--fields={text} should read NAME=KIND:COLUMN,NAME=KIND:COLUMN, as in '
        'said=sound:audio_path'
      )
    choose(kind, features.STORED, f'--fields: the kind of {name}')
    if kind == 'questions' or name in records.STANDARD:
      raise ConfigError(
        f'--fields={part}: images, captions and questions are mapped by '
        '--columns'
      )
    found.append(ExtraField(name, kind, column))
  names = [field.name for field in found]
  if len(set(names)) < len(names):
    raise ConfigError(f'--fields={text} names a field twice')
  records.Schema({field.name: field.kind for field in found})
  return tuple(_link_turns(found))


def _link_turns(found: Sequence[ExtraField]) -> list[ExtraField]:
  """Names the fields of the images, videos and sounds of turns.

  They are those of several, or else of a single video or sound, if there is
  one.

  Raises:
    ConfigError: if there are more.
  """
  turns = [field.name for field in found if field.kind == 'turns']
  chosen = {}
  for kind, single in (
    ('images', ''),
    ('videos', 'video'),
    ('sounds', 'sound'),
  ):
    names = [field.name for field in found if field.kind == kind]
    names = names or [field.name for field in found if field.kind == single]
    if turns and len(names) > 1:
      raise ConfigError(
        f'--fields: the {kind} in {turns[0]} may be those of '
        f'{" or ".join(names)}; fill one field of the kind {kind} with all'
      )
    chosen |= {kind: names[0]} if names else {}
  return [
    dataclasses.replace(field, **chosen) if field.kind == 'turns' else field
    for field in found
  ]


def list_columns(fields: Sequence[ExtraField]) -> tuple[str, ...]:
  """Lists the columns of fields, and those that are fields by themselves."""
  known = (name for names in _KNOWN.values() for name in names)
  return (*(field.column for field in fields), *known, *_PREFERENCE)


def list_omitted(fields: Sequence[ExtraField]) -> set[str]:
  """Names of what fills fields, and so is not metadata."""
  several = {f'{f.column}_column' for f in fields if f.kind == 'images'}
  return {field.column for field in fields} | several


def infer(fields: Mapping[str, Any]) -> tuple[ExtraField, ...]:
  """Finds the columns of sounds and videos by their names and endings.

  Where there are two answers, `chosen` and `rejected`, they and the `prompt`
  are turns.

  >>> infer({'audio': 'a/1.wav', 'caption': 'a dog'})
  (ExtraField(name='sound', kind='sound', column='audio'),)
  """
  found = {}
  if all(fields.get(name) for name in ('chosen', 'rejected')):
    for name in _PREFERENCE:
      if fields.get(name):
        found[name] = ExtraField(name, 'turns', name)
  for column, value in fields.items():
    for kind, names in _KNOWN.items():
      is_file = isinstance(value, str) and value.lower().endswith(ENDINGS[kind])
      is_bytes = isinstance(value, bytes)
      if column.lower() in names and (is_file or is_bytes):
        found.setdefault(kind, ExtraField(kind, kind, column))
  return tuple(found.values())


def read(
  field: ExtraField, fields: Mapping[str, Any], read_file: ReadFile | None
) -> Value:
  """Reads and checks a field of a row; None where its cell is empty.

  Args:
    field: the field.
    fields: the row's values by column.
    read_file: function that reads the files that a row names.

  Raises:
    ConfigError: if the value is not of the kind, naming the column.
    OSError: if a file can't be read.
  """
  raw = _find(field.column, fields)
  if raw in (None, [], {}) or (isinstance(raw, str) and _EMPTY.fullmatch(raw)):
    return None
  try:
    if isinstance(raw, str):
      texts.refuse_stand_in(raw, f'the {field.kind}')
    if field.kind == 'turns':
      role = _PREFERENCE.get(field.name)
      value = _read_turns(raw, field, role)
    else:
      value = _CONVERTERS[field.kind](raw, read_file)
  except ConfigError as error:
    raise ConfigError(f'{field.column}: {error}') from error
  return value


def _find(column: str, fields: Mapping[str, Any]) -> Any:
  """Finds a column's value, also if --columns names another for its field."""
  if column.lower() in columns.FIELDS:
    other = f'{column.lower()}_column'
    return fields.get(other, fields.get(column))
  return fields.get(column)


def _load(
  value: Any, read_file: ReadFile | None, check: Callable[[bytes], Any]
) -> bytes:
  """Reads the bytes of one file, or takes those of the cell."""
  if isinstance(value, dict):  # The `datasets` library writes these.
    value = value.get('bytes') or value.get('path')
  if isinstance(value, bytes):
    data = value
  elif isinstance(value, str) and (match := _DATA_URL.match(value)):
    data = _decode_url(value[match.end() :])
  elif isinstance(value, str) and read_file is not None:
    data = read_file(value)
  else:
    raise ConfigError(f'should be the path of a file, not {value!r:.80}')
  check(data)
  return data


def _decode_url(text: str) -> bytes:
  try:
    return base64.b64decode(text, validate=True)
  except ValueError as error:
    raise ConfigError(f'a data: URL is not base64: {error}') from error


def _load_list(
  value: Any, read_file: ReadFile | None, check: Callable[[bytes], Any]
) -> list[bytes]:
  return [_load(item, read_file, check) for item in _as_list(value)]


def _load_media(
  value: Any,
  read_file: ReadFile | None,
  word: str,
  check: Callable[[bytes], Any],
) -> list[bytes]:
  """Reads a list of files, or those in the messages of a conversation."""
  if isinstance(value, str) and value.lstrip().startswith('['):
    value = _parse_json(value)
  found = raw_turns.list_media(value, word)
  return _load_list(value if found is None else found, read_file, check)


def _load_video(value: Any, read_file: ReadFile | None) -> list[bytes]:
  is_frames = isinstance(value, list) and len(value) > 1
  check = images.check if is_frames else video_files.check
  return _load_list(value, read_file, check)


def _read_texts(value: Any, read_file: ReadFile | None, what: str) -> Any:
  del read_file
  if isinstance(value, dict):
    return {
      key: [texts.read(item, what) for item in _as_list(items)]
      for key, items in value.items()
      if items
    }
  return [texts.read(item, what) for item in _as_list(value)]


def _read_number(value: Any, read_file: ReadFile | None) -> float:
  del read_file
  return features.Number.from_metadata(value)


def _read_array(
  kind: type[features.Feature], value: Any, read_file: ReadFile | None
) -> np.ndarray:
  if isinstance(value, str) and value.endswith('.npy') and read_file:
    array = number_arrays.decode(read_file(value))
  elif isinstance(value, str):
    array = number_arrays.parse(value)
  else:
    array = number_arrays.convert(value)
  if fault := kind.explain_fault(array):
    raise ConfigError(fault)
  return array


def _read_turns(value: Any, field: ExtraField, role: str | None) -> list[dict]:
  if isinstance(value, str):
    value = _parse_turns(value, role)
  turns = raw_turns.read_turns(value, field.media)
  if fault := features.Turns.explain_fault(turns):
    raise ConfigError(fault)
  return turns


def _parse_turns(value: str, role: str | None) -> Any:
  """JSON of turns; or a text that is one, where its role is known."""
  if role is not None and not value.lstrip().startswith(('[', '{')):
    return [{'role': role, 'content': value}]
  return _parse_json(value)


def _parse_json(value: str) -> Any:
  try:
    return json.loads(value)
  except (ValueError, RecursionError) as error:
    raise ConfigError(f'{value!r:.80} is not JSON: {error}') from error


def _as_list(value: Any) -> list:
  return value if isinstance(value, list) else [value]


_CONVERTERS: dict[str, Callable[[Any, ReadFile | None], Any]] = {
  'image': functools.partial(_load, check=images.check),
  'images': functools.partial(_load_media, word='image', check=images.check),
  'videos': functools.partial(
    _load_media, word='video', check=video_files.check
  ),
  'sounds': functools.partial(_load_media, word='audio', check=audio.decode),
  'sound': functools.partial(_load, check=audio.decode),
  'video': _load_video,
  'text': functools.partial(_read_texts, what='text'),
  'category': functools.partial(_read_texts, what='class'),
  'number': _read_number,
  'vector': functools.partial(_read_array, features.Vector),
  'series': functools.partial(_read_array, features.Series),
  'points': functools.partial(_read_array, features.Points),
}
