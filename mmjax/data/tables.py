"""Reads JSONL and CSV tables whose rows name image files."""

import collections
import csv
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.data import raw_records


def read_jsonl(
  paths: Sequence[pathlib.Path],
) -> Iterator[raw_records.RawRecord]:
  """The rows of files with one JSON object a line; empty lines don't count."""
  names = _Names()
  for path in paths:
    with path.open('rb') as file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        try:
          row = json.loads(line)
          if not isinstance(row, dict):
            raise ValueError(f'it is no object, but {row!r:.80}')
        except ValueError as error:
          yield _bad(path, number, f'not a JSON object: {error}')
        else:
          yield _raw(path, number, row, names)


def read_csv(
  paths: Sequence[pathlib.Path],
) -> Iterator[raw_records.RawRecord]:
  """The rows of CSV files with a header; empty cells are absent fields.

  A cell that is a JSON list, as in ["a dog", "an animal"], is read as one.

  Raises:
    ValueError: a file has no header.
  """
  names = _Names()
  for path in paths:
    with path.open(encoding='utf-8-sig', newline='') as file:
      reader = csv.DictReader(file)
      if not reader.fieldnames:
        raise ValueError(f'{path} has no header line naming its columns')
      for row in reader:
        number = reader.line_num
        if None in row:
          yield _bad(
            path,
            number,
            f'there are more cells than the {len(reader.fieldnames)} columns',
          )
          continue
        cells = {key: _cell(text) for key, text in row.items() if text}
        yield _raw(path, number, cells, names)


class _Names:
  """Ids of rows that bring none: their image's, or their place."""

  def __init__(self):
    self._of: dict[Any, str] = {}
    self._seen = collections.Counter()

  def name(self, what: Any, name: str) -> str:
    """The same for the same thing; things of one name get a number behind."""
    if what not in self._of:
      self._seen[name] += 1
      number = self._seen[name]
      self._of[what] = name if number == 1 else f'{name}#{number}'
    return self._of[what]


def _raw(
  path: pathlib.Path, number: int, row: dict[str, Any], names: _Names
) -> raw_records.RawRecord:
  fields = {key: row[key] for key in row if key not in ('id', 'image')}
  image = row.get('image')
  if image is not None:
    fields['file'] = image
  has_id = row.get('id') not in (None, '')
  if has_id:
    name = str(row['id'])
  elif image is not None:
    name = names.name(path.parent / str(image), str(image))
  else:
    name = names.name((path, number), f'{path.stem}-{number}')
  return raw_records.RawRecord(
    id=name,
    where=f'{path.name}, line {number}',
    group=str(image or name),
    read_fields=functools.partial(dict, fields),
    read_image=functools.partial(_image, path.parent, image),
    # An image may have several rows, one a caption or question.
    is_part=image is not None and not has_id,
  )


def _bad(path: pathlib.Path, number: int, reason: str) -> raw_records.RawRecord:
  """A row that can't be read: whoever reads it gets the reason."""

  def fail():
    raise ValueError(reason)

  name = f'{path.stem}-{number}'
  where = f'{path.name}, line {number}'
  return raw_records.RawRecord(name, where, name, fail, fail)


def _image(folder: pathlib.Path, image: Any) -> bytes:
  if image is None:
    return b''
  if not isinstance(image, str):
    raise ValueError(f'image should be a path, not {image!r}')
  path = folder / image
  if not path.is_file():
    raise ValueError(f'there is no image file {path}')
  data = path.read_bytes()
  if not data:
    raise ValueError(f'image file {path} is empty')
  return data


def _cell(text: str) -> Any:
  if text.startswith('[') and text.endswith(']'):
    try:
      return json.loads(text)
    except ValueError:
      return text
  return text
