"""Reads Parquet files, with images as on the Hugging Face hub."""

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
  git_pointers,
  image_rows,
  raw_records,
  raw_turns,
)
from mmjax.errors import ConfigError

# Names of list types in the features of the `datasets` library.
_LIST_FEATURES = ('Sequence', 'List', 'LargeList')
_LIST_TYPES = (
  pa.types.is_list,
  pa.types.is_large_list,
  pa.types.is_fixed_size_list,
)
_BYTE_TYPES = (
  pa.types.is_binary,
  pa.types.is_large_binary,
  pa.types.is_fixed_size_binary,
  pa.types.is_binary_view,
)
# Errors of pyarrow for damaged pages, and for values that Python can't hold.
_DAMAGE_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)
_VALUE_ERRORS = (pa.ArrowException, ValueError, ArithmeticError)


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the rows of files.

  An image is a struct of `bytes` and `path`, plain bytes, the path of a file,
  or a list with one of these. Class labels become their names. From turns in a
  column `conversations` or `messages`, or pairs in `texts`, the first question
  and its answer are read. Bytes in other columns are ignored.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    try:
      file = _open(path, options)
    except _DAMAGE_ERRORS as error:
      reason = (
        f'{path} is not readable as Parquet: {_format_error(error)}'
        f'{_describe_start(path)}'
      )
      yield raw_records.make_unreadable(path.name, path.name, reason)
    except ConfigError as error:
      yield raw_records.make_unreadable(path.name, path.name, str(error))
    else:
      yield from caption_numbers.refuse(_read_rows(file, rows), path, options)


@dataclasses.dataclass(frozen=True)
class _File:
  """A Parquet file and the meaning of its columns.

  Attributes:
    path: path of the file.
    counts: number of rows of each row group.
    names: field of each column.
    texts: columns without encoded images and other bytes.
    encoded: column of the encoded images, None without one.
    further: names of columns that fill further fields.
    labels: names of the classes by column.
  """

  path: pathlib.Path
  counts: Sequence[int]
  names: Mapping[str, str]
  texts: Sequence[str]
  encoded: str | None
  further: Sequence[str]
  labels: Mapping[str, Sequence[str]]

  def make_record(self, rows, number, values, image) -> raw_records.RawRecord:
    """Makes the raw record of a row.

    Args:
      rows: factory of raw records.
      number: number of the row, from 1.
      values: values of the columns `texts`; an exception for an unreadable one.
      image: function that returns `_find_image`'s result for the row.
    """
    where = f'{self.path.name}, row {number}'
    name = f'{self.path.stem}-{number}'
    read_encoded = None
    try:
      fields = self._make_fields(values)
      if self.encoded is not None:
        fields['image'] = image()
      fields = raw_turns.replace(fields, self.further)
      if callable(fields.get('image')):
        read_encoded = fields['image']
    except ConfigError as error:
      return raw_records.make_unreadable(name, where, str(error))
    return rows.make_record(
      self.path.parent,
      where,
      name,
      fields,
      file=self.path,
      read_encoded=read_encoded,
    )

  def _make_fields(self, values: Sequence[Any]) -> raw_records.Fields:
    row = {}
    for column, value in zip(self.texts, values, strict=True):
      if isinstance(value, Exception):
        raise ConfigError(f"column {column!r} can't be read: {value}")
      if column in self.labels:
        value = self._name_label(column, value)
      value = _to_json(value)
      if value is not None:
        row[column] = value
    return image_rows.complete(
      image_rows.rename(row, self.names, self.further), self.names
    )

  def _name_label(self, column: str, value: Any) -> Any:
    """Returns the name of a class, or the names of a list."""
    if isinstance(value, list):
      return [self._name_label(column, item) for item in value]
    if not isinstance(value, int):
      return value
    names = self.labels[column]
    if 0 <= value < len(names):
      return names[value]
    if value == -1 and self.names[column] not in columns.FIELDS:
      return None  # The `datasets` library writes -1 for a missing label.
    raise ConfigError(
      f'column {column!r} is {value}, which is not one of its {len(names)} '
      'classes'
    )


def _open(path: pathlib.Path, options: image_rows.Options) -> _File:
  requested = options.columns
  with pq.ParquetFile(path) as table:
    schema, metadata = table.schema_arrow, table.metadata
    counts = [
      metadata.row_group(group).num_rows
      for group in range(metadata.num_row_groups)
    ]
  names = options.resolve(schema.names)
  extra = {*options.further, *options.several}
  encoded = [
    field.name
    for field in schema
    if _has_bytes(field.type) and field.name.strip() not in extra
  ]
  images = [name for name, field in names.items() if field == 'image']
  is_named = any(field == 'image' for field, _ in requested) or any(
    name.strip().lower() == 'image' for name in images
  )
  if encoded and not is_named and not set(images) & set(encoded):
    direct = [name for name in encoded if _holds_image(schema.field(name).type)]
    if not direct:
      raise ConfigError(
        f'there is no column `image`, but {encoded[0]!r} with objects that '
        'have bytes inside; write their fields as columns (pyarrow: '
        "pq.write_table(pq.read_table(FILE).flatten(), 'flat.parquet')) and "
        f'name that of the images with --columns=image={encoded[0]}.FIELD'
      )
    others = f', and {images[0]!r} with paths or the like' if images else ''
    raise ConfigError(
      f'there is no column `image`, but {", ".join(map(repr, encoded))} with '
      f'bytes{others}; name the column of the images, for example '
      f'{columns.format_flag("image", direct[0])}'
    )
  return _File(
    path,
    counts,
    names,
    [name for name in schema.names if name not in encoded],
    next((name for name in images if name in encoded), None),
    options.further,
    _read_labels(schema),
  )


def _format_error(error: Exception) -> str:
  """Formats an error's message on one line."""
  return ' '.join(str(error).split())


def _describe_start(path: pathlib.Path) -> str:
  """Describes the first bytes of a file that is not Parquet."""
  try:
    with path.open('rb') as file:
      start = file.read(32)
  except OSError:
    return ''
  if reason := git_pointers.explain(start):
    return f'; it is {reason}'
  return '' if start.startswith(b'PAR1') else f'; it begins with {start!r}'


def _read_labels(schema: pa.Schema) -> dict[str, list[str]]:
  """Reads the class names that the `datasets` library stores, by column."""
  features_json = (schema.metadata or {}).get(b'huggingface', b'{}')
  try:
    features = json.loads(features_json)['info']['features']
  except (ValueError, KeyError, TypeError):
    return {}  # Without class names, labels stay numbers.
  if not isinstance(features, dict):
    return {}
  labels = {}
  for name, feature in features.items():
    if isinstance(feature, dict) and feature.get('_type') in _LIST_FEATURES:
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
  return any(is_type(kind) for is_type in _BYTE_TYPES)


def _holds_image(kind: pa.DataType) -> bool:
  """Whether values are bytes, objects with `bytes`, or lists of these."""
  while _is_list(kind):
    kind = kind.value_type
  if pa.types.is_struct(kind):
    return kind.get_field_index('bytes') >= 0
  return any(is_type(kind) for is_type in _BYTE_TYPES)


def _is_list(kind: pa.DataType) -> bool:
  return any(is_type(kind) for is_type in _LIST_TYPES)


def _read_rows(
  file: _File, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  number = 0
  for group, count in enumerate(file.counts):
    try:
      with pq.ParquetFile(file.path) as table:
        texts = table.read_row_group(group, columns=list(file.texts))
      values = [_to_values(texts[name]) for name in file.texts]
      if any(len(column) != count for column in values):
        raise pa.ArrowInvalid('a column has another number of rows')
    except _DAMAGE_ERRORS as error:
      where = f'{file.path.name}, rows {number + 1} to {number + count}'
      reason = f'these rows are not readable: {_format_error(error)}'
      yield raw_records.make_unreadable(
        f'{file.path.stem}-{number + 1}', where, reason
      )
      number += count
      continue
    for index in range(count):
      number += 1
      image = functools.partial(
        _find_image, file.path, group, file.encoded, index
      )
      yield file.make_record(rows, number, [v[index] for v in values], image)


def _to_values(column: pa.ChunkedArray) -> list[Any]:
  """Converts a column to Python values; an exception for an unreadable one."""
  try:
    return column.to_pylist()
  except _VALUE_ERRORS:
    return [_to_value(cell) for cell in column]


def _to_value(cell: pa.Scalar) -> Any:
  try:
    return cell.as_py()
  except UnicodeDecodeError as error:
    wrong = error.object[error.start]
    return ConfigError(f'byte 0x{wrong:02x} at {error.start} is not UTF-8')
  except _VALUE_ERRORS:
    pass
  # Python's times have microseconds, Arrow's texts of them have nanoseconds.
  if pa.types.is_timestamp(cell.type) or pa.types.is_time(cell.type):
    with contextlib.suppress(*_VALUE_ERRORS):
      text = cell.cast(pa.string()).as_py()
      if not text.startswith('<'):  # '<value out of range: ...>'
        return text
  return ConfigError(f'it is not a value of {cell.type} that can be written')


def _to_json(value: Any) -> Any:
  """Converts a value to one that JSON can hold."""
  if isinstance(value, list):
    if value and all(isinstance(item, tuple) for item in value):
      value = dict(value)  # A map, whose keys are unique.
    else:
      return [_to_json(item) for item in value]
  if isinstance(value, dict):
    return {key: _to_json(item) for key, item in value.items()}
  if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
    return str(value)
  if isinstance(value, decimal.Decimal):
    return float(value)
  # pandas writes NaN for a missing value.
  return None if value != value else value


def _find_image(
  path: pathlib.Path, group: int, column: str, index: int
) -> Callable[[], bytes] | str | None:
  """Finds a row's image: a function that reads it, or a file's path, or None.

  Raises:
    ConfigError: if it can't be read, or there are several.
  """
  try:
    cell = _read_cell(path, group, column, index)
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
  except _DAMAGE_ERRORS as error:
    raise ConfigError(
      f'its image is not readable: {_format_error(error)}'
    ) from error
  return functools.partial(_read_bytes, path, group, column, index)


def _read_bytes(
  path: pathlib.Path, group: int, column: str, index: int
) -> bytes:
  """Reads the encoded image of a row, where `_find_image` found one."""
  cell = _read_cell(path, group, column, index)
  value = (cell['bytes'] if pa.types.is_struct(cell.type) else cell).as_py()
  if not value:
    raise ConfigError('its image is missing: it has no bytes')
  return value


def _read_cell(
  path: pathlib.Path, group: int, column: str, index: int
) -> pa.Scalar:
  """Reads the struct or bytes of an image, or of the only one in a list."""
  cell = _read_column(path, group, column)[index]
  while cell.is_valid and _is_list(cell.type):
    items = cell.values
    if len(items) > 1:
      raise ConfigError(
        f'column {column!r} has {len(items)} images; a record holds one'
      )
    cell = items[0] if len(items) else pa.scalar(None)
  return cell


# Cached, since the rows of a group are read one after another.
@functools.lru_cache(2)
def _read_column(
  path: pathlib.Path, group: int, column: str
) -> pa.ChunkedArray:
  with pq.ParquetFile(path) as table:
    return table.read_row_group(group, columns=[column])[column]
