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
  json_tables,
  raw_records,
  raw_turns,
  text_files,
)
from mmjax.errors import ConfigError

_NOT_READ = 'the rest is not read'
_WHITESPACE = re.compile(r'[ \t\n\r]*')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the rows of files with one JSON object a line, or a list of objects.

  A file may also hold objects over several lines, one object with exactly one
  list of objects, or a table in one of pandas' layouts. Empty lines are
  ignored. An unreadable entry becomes a record whose reading raises.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    yield from caption_numbers.refuse(
      _read_file(path, options, rows), path, options
    )


def _read_file(
  path: pathlib.Path, options: image_rows.Options, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  entries = read_entries(path, options.encoding)
  for number, where, value in _unwrap(entries, options.columns):
    # An error of the whole file has the file's name.
    name = where if where == path.name else f'{path.stem}-{number}'
    try:
      row = _check_object(value)
      names = options.resolve(tuple(row))
      fields = image_rows.rename(row, names, options.further)
      fields = raw_turns.replace(fields, options.further)
    except ConfigError as error:
      yield raw_records.make_unreadable(name, where, str(error))
    else:
      yield rows.make_record(path.parent, where, name, fields, file=path)


def read_entries(
  path: pathlib.Path, encoding: str | None
) -> Iterator[tuple[int, str, Any]]:
  """Yields each entry's number, location, and value or ConfigError.

  Entries are the items of a list, or consecutive values, on a line each or not.
  The entries after a broken line are read, and those after a value that is
  valid JSON but refused; those after any other fault are not.
  """
  number = 0
  try:
    if _has_lines(path, encoding):
      for number, line in enumerate(text_files.read_lines(path, encoding), 1):
        if line.strip():
          yield number, f'{path.name}, line {number}', _parse(line, encoding)
    else:
      text = text_files.read(path, encoding)
      for number, value in enumerate(_parse_values(text, encoding), 1):
        yield number, f'{path.name}, entry {number}', value
  except (ValueError, OSError) as error:
    where = f'{path.name}, after {number}'
    yield number + 1, where, ConfigError(str(error))


def load(path: pathlib.Path, encoding: str | None) -> Any:
  """Reads a whole JSON file.

  Bytes of another encoding become lone surrogates, which records refuse.

  Raises:
    ConfigError: if it is not JSON.
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
  with contextlib.closing(text_files.read_lines(path, encoding)) as lines:
    first = next((line for line in lines if line.strip()), '')
  if first.lstrip().startswith('['):
    return False
  if not first.lstrip().startswith('{') or _has_value(first):
    return True
  # The first value is broken, or continues in the next line.
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


def _parse_values(text: str, encoding: str | None) -> Iterator[Any]:
  """Yields the items of a list, or the values of a text, or ConfigErrors."""
  position = _Position(text)
  index = _WHITESPACE.match(text).end()
  is_list = text.startswith('[', index)
  index = _WHITESPACE.match(text, index + is_list).end()
  while index < len(text) and not (is_list and text.startswith(']', index)):
    value, index = _parse_value_at(text, index, encoding, position)
    yield value
    if index < 0:
      return
    index = _WHITESPACE.match(text, index).end()
    if is_list and text.startswith(',', index):
      index = _WHITESPACE.match(text, index + 1).end()
    elif is_list and not text.startswith(']', index):
      line, column = position.locate(index)
      yield ConfigError(
        f'the list has neither , nor ] at line {line}, column {column}; '
        f'{_NOT_READ}'
      )
      return
  end = index + is_list
  if text[end:].strip():
    line, column = position.locate(end)
    yield ConfigError(
      f'there is more after the list, from line {line}, column {column}, which '
      'is not read'
    )


def _parse_value_at(
  text: str, index: int, encoding: str | None, position: '_Position'
) -> tuple[Any, int]:
  """Returns an entry or its ConfigError, and its end; -1 if that is unknown."""
  try:
    value, end = text_files.parse_json_at(text, index)
    text_files.check(text[index:end], encoding)
    return value, end
  except json.JSONDecodeError as error:
    return ConfigError(
      f'not JSON: {error.msg} at line {error.lineno}, column {error.colno}; '
      f'{_NOT_READ}'
    ), -1
  except ValueError as error:
    line, _ = position.locate(index)
    reason = f'in the entry from line {line}: {error}'
  end = text_files.find_json_end(text, index)
  return ConfigError(reason if end > 0 else f'{reason}; {_NOT_READ}'), end


class _Position:
  """Converts increasing indices of a text to lines and columns."""

  def __init__(self, text: str):
    self._text = text
    self._index = 0
    self._line = 1

  def locate(self, index: int) -> tuple[int, int]:
    """Returns the line and column of an index, from 1."""
    self._line += self._text.count('\n', self._index, index)
    self._index = index
    return self._line, index - self._text.rfind('\n', 0, index)


def _unwrap(
  entries: Iterator[tuple[int, str, Any]], requested: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, str, Any]]:
  """Yields the entries, or the items of the only list in an only object."""
  first = list(itertools.islice(entries, 2))
  value = first[0][2] if len(first) == 1 else None
  where = first[0][1].rpartition(', ')[0] if first else ''
  orient = json_tables.find_orient(value) if isinstance(value, dict) else None
  if orient is not None:
    for number, row in enumerate(json_tables.read_rows(value, orient), 1):
      yield number, f'{where}, entry {number}', row
    return
  if not isinstance(value, dict) or _is_row(value, requested):
    yield from first
    yield from entries
    return
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
      'list of objects or one per line, or choose the --format of published '
      'annotations, such as coco'
    ),
  )


def _is_row(
  value: dict[str, Any], requested: Sequence[tuple[str, str]]
) -> bool:
  """Whether an object is itself a row, by its keys and values."""
  names = [key for key, items in value.items() if not _has_objects(items)]
  is_flat = not any(isinstance(v, list | dict) for v in value.values())
  return is_flat or columns.count_known(names, requested) > 0


def _has_objects(value: Any) -> bool:
  return isinstance(value, list) and any(
    isinstance(item, dict) for item in value
  )


def _check_object(value: Any) -> dict[str, Any]:
  if isinstance(value, ConfigError):
    raise value
  if not isinstance(value, dict):
    raise ConfigError(
      f'not a JSON object, but {text_files.quote(value)}; write one per row, '
      'such as {"image": ..., "caption": ...}'
    )
  return value
