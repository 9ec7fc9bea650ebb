"""Reads JSONL files, and JSON files that hold a list."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.data import columns, image_rows, raw_records, text_files


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The rows of files with one JSON object a line, or a list of objects.

  Empty lines don't count. What can't be read is a record whose reading raises.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    for number, where, value in entries(path, options.encoding):
      name = f'{path.stem}-{number}'
      try:
        row = _object(value)
        names = columns.resolve(tuple(row), options.columns)
        fields = image_rows.rename(row, names)
      except ValueError as error:
        yield raw_records.broken(name, where, str(error))
      else:
        yield rows.record(path.parent, where, name, fields, file=path)


def entries(
  path: pathlib.Path, encoding: str | None
) -> Iterator[tuple[int, str, Any]]:
  """Each entry's number, place and value, or the ValueError in its place."""
  number, is_first = 0, True
  try:
    for number, line in enumerate(text_files.lines(path, encoding), 1):
      if is_first and line.lstrip().startswith('['):
        yield from _list(path, encoding)
        return
      if line.strip():
        is_first = False
        yield number, f'{path.name}, line {number}', _parse(line, encoding)
  except (ValueError, OSError) as error:
    where = f'{path.name}, after line {number}'
    yield number + 1, where, ValueError(str(error))


def load(path: pathlib.Path, encoding: str | None) -> Any:
  """What a whole JSON file holds.

  Raises:
    ValueError: it is not JSON.
  """
  text = text_files.read(path, encoding)
  try:
    text_files.check(text, encoding)
    return text_files.parse_json(text)
  except ValueError as error:
    raise ValueError(f'{path.name} is not JSON: {error}') from error


def _parse(line: str, encoding: str | None) -> Any:
  try:
    text_files.check(line, encoding)
    return text_files.parse_json(line)
  except ValueError as error:
    return ValueError(f'not a JSON object: {error}')


def _list(
  path: pathlib.Path, encoding: str | None
) -> Iterator[tuple[int, str, Any]]:
  """The entries of a file that is one list."""
  for number, value in enumerate(load(path, encoding), 1):
    yield number, f'{path.name}, entry {number}', value


def _object(value: Any) -> dict[str, Any]:
  if isinstance(value, ValueError):
    raise value
  if not isinstance(value, dict):
    raise ValueError(f'not a JSON object, but {value!r:.80}')
  return value
