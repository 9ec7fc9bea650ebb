"""Reads JSONL files, and JSON files that hold a list or objects."""

import contextlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.data import (
  caption_numbers,
  columns,
  image_rows,
  raw_records,
  text_files,
)
from mmjax.errors import ConfigError

_REST = 'what follows is not read'
_SPACE = re.compile(r'[ \t\n\r]*')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The rows of files with one JSON object a line, or a list of objects.

  A file may also hold objects over several lines, or one object in which the
  only list of objects is meant. Empty lines don't count. What can't be read is
  a record whose reading raises.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    yield from caption_numbers.ask(
      _read_file(path, options, rows), path, options
    )


def _read_file(
  path: pathlib.Path, options: image_rows.Options, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  found = entries(path, options.encoding)
  for number, where, value in _unwrapped(found, options.columns):
    name = f'{path.stem}-{number}'
    try:
      row = _object(value)
      names = columns.resolve(tuple(row), options.columns)
      fields = image_rows.rename(row, names)
    except ConfigError as error:
      yield raw_records.broken(name, where, str(error))
    else:
      yield rows.record(path.parent, where, name, fields, file=path)


def entries(
  path: pathlib.Path, encoding: str | None
) -> Iterator[tuple[int, str, Any]]:
  """Each entry's number, place and value, or the ConfigError in its place.

  Entries are those of a list, or values one after another, one a line or not.
  What follows a fault in a line is read, and what follows an entry that JSON
  can hold; what follows any other fault is not.
  """
  number = 0
  try:
    if _has_lines(path, encoding):
      for number, line in enumerate(text_files.lines(path, encoding), 1):
        if line.strip():
          yield number, f'{path.name}, line {number}', _parse(line, encoding)
    else:
      text = text_files.read(path, encoding)
      for number, value in enumerate(_values(text, encoding), 1):
        yield number, f'{path.name}, entry {number}', value
  except (ValueError, OSError) as error:
    where = f'{path.name}, after {number}'
    yield number + 1, where, ConfigError(str(error))


def load(path: pathlib.Path, encoding: str | None) -> Any:
  """What a whole JSON file holds.

  Bytes of another encoding become lone surrogates, which no record may have.

  Raises:
    ConfigError: it is not JSON.
  """
  text = text_files.read(path, encoding)
  try:
    return text_files.parse_json(text)
  except ValueError as error:
    raise ConfigError(f'{path.name} is not JSON: {error}') from error


def _parse(line: str, encoding: str | None) -> Any:
  try:
    text_files.check(line, encoding)
    return text_files.parse_json(line.rstrip().removesuffix(','))
  except json.JSONDecodeError as error:
    return ConfigError(
      f'not a JSON object: {error.msg} at column {error.colno}'
    )
  except ValueError as error:
    return ConfigError(f'not a JSON object: {error}')


def _has_lines(path: pathlib.Path, encoding: str | None) -> bool:
  """Whether each line is a value by itself."""
  with contextlib.closing(text_files.lines(path, encoding)) as lines:
    first = next((line for line in lines if line.strip()), '')
  if first.lstrip().startswith('['):
    return False
  if not first.lstrip().startswith('{') or _has_value(first):
    return True
  # The first value is broken, or goes on in the next line.
  return first.strip() != '{' and not _has_value(
    text_files.read(path, encoding)
  )


def _has_value(text: str) -> bool:
  """Whether a text begins with a whole value."""
  try:
    text_files.parse_json_at(text, len(text) - len(text.lstrip()))
  except json.JSONDecodeError:
    return False
  except ValueError:  # JSON, but refused.
    pass
  return True


def _values(text: str, encoding: str | None) -> Iterator[Any]:
  """The entries of a list, or the values of a text; a ConfigError for one."""
  position = _Position(text)
  place = _SPACE.match(text).end()
  is_list = text.startswith('[', place)
  place = _SPACE.match(text, place + is_list).end()
  while place < len(text) and not (is_list and text.startswith(']', place)):
    value, place = _value_at(text, place, encoding, position)
    yield value
    if place < 0:
      return
    place = _SPACE.match(text, place).end()
    if is_list and text.startswith(',', place):
      place = _SPACE.match(text, place + 1).end()
    elif is_list and not text.startswith(']', place):
      line, column = position.of(place)
      yield ConfigError(
        f'the list has neither , nor ] at line {line}, column {column}; {_REST}'
      )
      return
  end = place + is_list
  if text[end:].strip():
    line, column = position.of(end)
    yield ConfigError(
      f'more follows the list from line {line}, column {column}; it is not read'
    )


def _value_at(
  text: str, place: int, encoding: str | None, position: '_Position'
) -> tuple[Any, int]:
  """An entry or its ConfigError, and where it ends; -1 if nobody knows."""
  try:
    value, end = text_files.parse_json_at(text, place)
    text_files.check(text[place:end], encoding)
    return value, end
  except json.JSONDecodeError as error:
    return ConfigError(
      f'not JSON: {error.msg} at line {error.lineno}, column {error.colno}; '
      f'{_REST}'
    ), -1
  except ValueError as error:
    line, _ = position.of(place)
    reason = f'in the entry from line {line}: {error}'
  end = text_files.end_of_json_at(text, place)
  return ConfigError(reason if end > 0 else f'{reason}; {_REST}'), end


class _Position:
  """Lines and columns of places, each behind the one before."""

  def __init__(self, text: str):
    self._text = text
    self._place = 0
    self._line = 1

  def of(self, place: int) -> tuple[int, int]:
    """The line and column of a place, from 1."""
    self._line += self._text.count('\n', self._place, place)
    self._place = place
    return self._line, place - self._text.rfind('\n', 0, place)


def _unwrapped(
  found: Iterator[tuple[int, str, Any]], wanted: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, str, Any]]:
  """The entries, or those of the one list in a file's only object."""
  first = list(itertools.islice(found, 2))
  value = first[0][2] if len(first) == 1 else None
  if not isinstance(value, dict) or _is_row(value, wanted):
    yield from first
    yield from found
    return
  where = first[0][1].rpartition(', ')[0]
  lists = [key for key, items in value.items() if _has_objects(items)]
  if len(lists) == 1:
    for number, item in enumerate(value[lists[0]], 1):
      yield number, f'{where}, entry {number} of {lists[0]!r}', item
    return
  keys = ', '.join(map(repr, itertools.islice(value, 5)))
  yield (
    1,
    where,
    ConfigError(
      f'it is one object with the keys {keys:.200}'
      f'{", ..." if len(value) > 5 else ""}, none of which is known; write a '
      'list of objects or one a line, or choose the --format of published '
      'annotations, such as coco'
    ),
  )


def _is_row(value: dict[str, Any], wanted: Sequence[tuple[str, str]]) -> bool:
  """Whether an object is a row itself, by its keys and what they hold."""
  names = [key for key, items in value.items() if not _has_objects(items)]
  is_flat = not any(isinstance(v, list | dict) for v in value.values())
  return is_flat or columns.known(names, wanted) > 0


def _has_objects(value: Any) -> bool:
  return isinstance(value, list) and any(
    isinstance(item, dict) for item in value
  )


def _object(value: Any) -> dict[str, Any]:
  if isinstance(value, ConfigError):
    raise value
  if not isinstance(value, dict):
    raise ConfigError(f'not a JSON object, but {text_files.shown(value)}')
  return value
