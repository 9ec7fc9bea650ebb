"""Reads Parquet files, with images inside as the Hugging Face hub has them."""

import contextlib
import dataclasses
import datetime
import decimal
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmjax.data import (
  caption_numbers,
  columns,
  conversations,
  image_rows,
  raw_records,
)
from mmjax.errors import ConfigError

# Types of lists in the features of the `datasets` library.
_LISTS = ('Sequence', 'List', 'LargeList')
_LIST = (
  pa.types.is_list,
  pa.types.is_large_list,
  pa.types.is_fixed_size_list,
)
_BYTES = (
  pa.types.is_binary,
  pa.types.is_large_binary,
  pa.types.is_fixed_size_binary,
  pa.types.is_binary_view,
)
# What pyarrow raises for damaged pages, and for values that Python can't hold.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_NO_VALUE = (pa.ArrowException, ValueError, ArithmeticError)


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The rows of files.

  An image is a struct of `bytes` and `path`, plain bytes, the path of a file,
  or a list of one of these. Class labels become their names. Of turns in a
  column `conversations` or `messages`, the first question and its answer are
  read. Bytes in other columns are left out.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    try:
      file = _open(path, options.columns)
    except _DAMAGE as error:
      reason = (
        f'{path} is not readable as Parquet: {_line(error)}{_start(path)}'
      )
      yield raw_records.broken(path.name, path.name, reason)
    except ConfigError as error:
      yield raw_records.broken(path.name, path.name, str(error))
    else:
      yield from caption_numbers.ask(_rows(file, rows), path, options)


@dataclasses.dataclass(frozen=True)
class _File:
  """A Parquet file and what its columns are.

  Attributes:
    path: where it is.
    counts: how many rows each group of rows has.
    names: the field of each column.
    texts: the columns without encoded images and other bytes.
    encoded: the column that holds encoded images, if there is one.
    labels: names of classes by column.
  """

  path: pathlib.Path
  counts: Sequence[int]
  names: Mapping[str, str]
  texts: Sequence[str]
  encoded: str | None
  labels: Mapping[str, Sequence[str]]

  def record(self, rows, number, values, image) -> raw_records.RawRecord:
    """The raw record of a row.

    Args:
      rows: makes it.
      number: of the row, from 1.
      values: of `texts`; an exception where one can't be read.
      image: makes what `_image` returns, where it is in `encoded`.
    """
    where = f'{self.path.name}, row {number}'
    name = f'{self.path.stem}-{number}'
    encoded = None
    try:
      fields = self._fields(values)
      if self.encoded is not None:
        fields['image'] = image()
      if conversations.is_one(fields):
        fields = _with_turns(fields)
      if callable(fields.get('image')):
        encoded = fields['image']
    except ConfigError as error:
      return raw_records.broken(name, where, str(error))
    return rows.record(
      self.path.parent,
      where,
      name,
      fields,
      file=self.path,
      encoded=encoded,
    )

  def _fields(self, values: Sequence[Any]) -> raw_records.Fields:
    row = {}
    for column, value in zip(self.texts, values, strict=True):
      if isinstance(value, Exception):
        raise ConfigError(f"column {column!r} can't be read: {value}")
      if column in self.labels:
        value = self._label(column, value)
      value = _plain(value)
      if value is not None:
        row[column] = value
    return image_rows.complete(image_rows.rename(row, self.names), self.names)

  def _label(self, column: str, value: Any) -> Any:
    """The name of a class, or the names in a list."""
    if isinstance(value, list):
      return [self._label(column, item) for item in value]
    if not isinstance(value, int):
      return value
    names = self.labels[column]
    if 0 <= value < len(names):
      return names[value]
    if value == -1 and self.names[column] not in columns.FIELDS:
      return None  # What the `datasets` library writes for no label.
    raise ConfigError(
      f'column {column!r} is {value}, which is none of its {len(names)} classes'
    )


def _with_turns(fields: raw_records.Fields) -> raw_records.Fields:
  """A row with the first question and answer of its turns in their place."""
  found = conversations.first_turns(fields)
  rest = {
    key: value
    for key, value in fields.items()
    if key not in ('conversations', 'messages', 'image')
  }
  return rest | found


def _open(path: pathlib.Path, wanted: Sequence[tuple[str, str]]) -> _File:
  with pq.ParquetFile(path) as table:
    schema, metadata = table.schema_arrow, table.metadata
    counts = [
      metadata.row_group(group).num_rows
      for group in range(metadata.num_row_groups)
    ]
  names = columns.resolve(tuple(schema.names), tuple(wanted))
  encoded = [field.name for field in schema if _has_bytes(field.type)]
  images = [name for name, field in names.items() if field == 'image']
  is_named = any(field == 'image' for field, _ in wanted) or any(
    name.strip().lower() == 'image' for name in images
  )
  if encoded and not is_named and not set(images) & set(encoded):
    others = f', and {images[0]!r} with paths or the like' if images else ''
    raise ConfigError(
      f'there is no column `image`, but {", ".join(map(repr, encoded))} with '
      f'bytes{others}; name the one of the images, for example '
      f'{columns.flag("image", encoded[0])}'
    )
  return _File(
    path,
    counts,
    names,
    [name for name in schema.names if name not in encoded],
    next((name for name in images if name in encoded), None),
    _labels(schema),
  )


def _line(error: Exception) -> str:
  """An error's message, some of which are of several lines."""
  return ' '.join(str(error).split())


def _start(path: pathlib.Path) -> str:
  """What a file begins with that is not Parquet."""
  try:
    with path.open('rb') as file:
      start = file.read(24)
  except OSError:
    return ''
  return '' if start.startswith(b'PAR1') else f'; it begins with {start!r}'


def _labels(schema: pa.Schema) -> dict[str, list[str]]:
  """Names of classes by column, as the `datasets` library stores them."""
  stored = (schema.metadata or {}).get(b'huggingface', b'{}')
  try:
    features = json.loads(stored)['info']['features']
  except (ValueError, KeyError, TypeError):
    return {}  # Only what is there can be used; numbers stay numbers.
  if not isinstance(features, dict):
    return {}
  labels = {}
  for name, feature in features.items():
    if isinstance(feature, dict) and feature.get('_type') in _LISTS:
      feature = feature.get('feature')
    if isinstance(feature, list) and len(feature) == 1:
      feature = feature[0]
    if isinstance(feature, dict) and feature.get('_type') == 'ClassLabel':
      names = feature.get('names')
      if isinstance(names, list):
        labels[name] = names
  return labels


def _has_bytes(kind: pa.DataType) -> bool:
  """Whether values of a type hold bytes, such as an encoded image."""
  if pa.types.is_struct(kind):
    return any(f.name == 'bytes' or _has_bytes(f.type) for f in kind)
  if _is_list(kind):
    return _has_bytes(kind.value_type)
  return any(is_of(kind) for is_of in _BYTES)


def _is_list(kind: pa.DataType) -> bool:
  return any(is_of(kind) for is_of in _LIST)


def _rows(
  file: _File, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  number = 0
  for group, count in enumerate(file.counts):
    try:
      with pq.ParquetFile(file.path) as table:
        texts = table.read_row_group(group, columns=list(file.texts))
      values = [_values(texts[name]) for name in file.texts]
      if any(len(column) != count for column in values):
        raise pa.ArrowInvalid('a column has another number of rows')
    except _DAMAGE as error:
      where = f'{file.path.name}, rows {number + 1} to {number + count}'
      reason = f'these rows are not readable: {_line(error)}'
      yield raw_records.broken(f'{file.path.stem}-{number + 1}', where, reason)
      number += count
      continue
    for place in range(count):
      number += 1
      image = functools.partial(_image, file.path, group, file.encoded, place)
      yield file.record(rows, number, [v[place] for v in values], image)


def _values(column: pa.ChunkedArray) -> list[Any]:
  """The values of a column; an exception for one that can't be read."""
  try:
    return column.to_pylist()
  except _NO_VALUE:
    return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
  try:
    return cell.as_py()
  except UnicodeDecodeError as error:
    wrong = error.object[error.start]
    return ConfigError(f'byte 0x{wrong:02x} at {error.start} is not UTF-8')
  except _NO_VALUE:
    pass
  # Python's times have microseconds, Arrow's texts of them have nanoseconds.
  if pa.types.is_timestamp(cell.type) or pa.types.is_time(cell.type):
    with contextlib.suppress(*_NO_VALUE):
      text = cell.cast(pa.string()).as_py()
      if not text.startswith('<'):  # As it says that it is out of range.
        return text
  return ConfigError(f'it is not a value of {cell.type} that can be written')


def _plain(value: Any) -> Any:
  """What JSON can hold of a value."""
  if isinstance(value, list):
    if value and all(isinstance(item, tuple) for item in value):
      value = dict(value)  # A map, whose keys are unique.
    else:
      return [_plain(item) for item in value]
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
    return str(value)
  if isinstance(value, decimal.Decimal):
    return float(value)
  # pandas writes NaN for what is missing.
  return None if value != value else value


def _image(
  path: pathlib.Path, group: int, column: str, place: int
) -> Callable[[], bytes] | str | None:
  """What reads a row's image, or the path of its file; None for neither.

  Raises:
    ConfigError: it can't be read, or is more than one.
  """
  try:
    cell = _cell(path, group, column, place)
    if not cell.is_valid:
      return None
    if pa.types.is_struct(cell.type):
      names = [field.name for field in cell.type]
      if 'bytes' not in names:
        raise ConfigError(
          f'column {column!r} has {", ".join(names)}, not bytes and path'
        )
      if not cell['bytes'].is_valid:
        return cell['path'].as_py() if 'path' in names else None
  except IndexError as error:
    raise ConfigError('its image is missing from a damaged column') from error
  except _DAMAGE as error:
    raise ConfigError(f'its image is not readable: {_line(error)}') from error
  return functools.partial(_bytes, path, group, column, place)


def _bytes(path: pathlib.Path, group: int, column: str, place: int) -> bytes:
  """The encoded image of a row that `_image` found to have one."""
  cell = _cell(path, group, column, place)
  value = (cell['bytes'] if pa.types.is_struct(cell.type) else cell).as_py()
  if not value:
    raise ConfigError('its image is missing: it has no bytes')
  return value


def _cell(path: pathlib.Path, group: int, column: str, place: int) -> pa.Scalar:
  """The struct or bytes of an image, alone in its list if it is in one."""
  cell = _encoded(path, group, column)[place]
  while cell.is_valid and _is_list(cell.type):
    items = cell.values
    if len(items) > 1:
      raise ConfigError(
        f'column {column!r} has {len(items)} images; a record holds one'
      )
    cell = items[0] if len(items) else pa.scalar(None)
  return cell


# The rows of a group are read one after another.
@functools.lru_cache(2)
def _encoded(path: pathlib.Path, group: int, column: str) -> pa.ChunkedArray:
  with pq.ParquetFile(path) as table:
    return table.read_row_group(group, columns=[column])[column]
