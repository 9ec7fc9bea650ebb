"""Reads Parquet files, with images inside as the Hugging Face hub has them."""

import dataclasses
import datetime
import decimal
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmjax.data import columns, image_rows, raw_records


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The rows of files.

  An image is a struct of `bytes` and `path`, plain bytes, or the path of a
  file. Class labels become their names. Bytes in other columns are left out.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    try:
      yield from _read_file(_File(path, options.columns), rows)
    except (ValueError, OSError, pa.ArrowException) as error:
      reason = f'{path} is not readable as Parquet: {error}'
      yield raw_records.broken(path.name, path.name, reason)


@dataclasses.dataclass(frozen=True)
class _File:
  """A Parquet file and what its columns are."""

  path: pathlib.Path
  wanted: tuple[tuple[str, str], ...]

  @functools.cached_property
  def names(self) -> Mapping[str, str]:
    """The field of each column."""
    return columns.resolve(tuple(_schema(self.path).names), self.wanted)

  @functools.cached_property
  def texts(self) -> list[str]:
    """The columns without encoded images and other bytes."""
    return [field.name for field in _schema(self.path) if _is_plain(field.type)]

  @functools.cached_property
  def encoded(self) -> str | None:
    """The column that holds encoded images."""
    for field in _schema(self.path):
      if self.names[field.name] == 'image' and not _is_plain(field.type):
        return field.name
    return None

  @functools.cached_property
  def labels(self) -> dict[str, list[str]]:
    """Names of classes by column, as the `datasets` library stores them."""
    stored = (_schema(self.path).metadata or {}).get(b'huggingface', b'{}')
    try:
      features = json.loads(stored)['info']['features']
      return {
        name: list(feature['names'])
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get('_type') == 'ClassLabel'
      }
    except (ValueError, KeyError, TypeError, AttributeError):
      return {}  # Only what is there can be used; numbers stay numbers.


def _schema(path: pathlib.Path) -> pa.Schema:
  return pq.read_schema(path)


def _is_plain(kind: pa.DataType) -> bool:
  if pa.types.is_struct(kind):
    return all(field.name != 'bytes' for field in kind)
  return not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _read_file(
  file: _File, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  path = file.path
  number = 0
  with pq.ParquetFile(path) as table:
    for group in range(table.num_row_groups):
      count = table.metadata.row_group(group).num_rows
      texts = table.read_row_group(group, columns=file.texts).to_pylist()
      for place, row in enumerate(texts or [{}] * count):
        number += 1
        encoded = None
        if file.encoded is not None:
          encoded = functools.partial(_image, path, group, file.encoded, place)
        row = {
          name: _plain(value, file.labels.get(name))
          for name, value in row.items()
          if value is not None
        }
        yield rows.record(
          path.parent,
          f'{path.name}, row {number}',
          f'{path.stem}-{number}',
          image_rows.rename(row, file.names),
          file=path,
          encoded=encoded,
        )


def _plain(value: Any, labels: list[str] | None) -> Any:
  """What JSON can hold of a value."""
  if labels and isinstance(value, int) and 0 <= value < len(labels):
    return labels[value]
  if isinstance(value, list):
    return [_plain(item, labels) for item in value]
  if isinstance(value, dict):
    return {key: _plain(item, None) for key, item in value.items()}
  if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
    return str(value)
  if isinstance(value, decimal.Decimal):
    return float(value)
  # pandas writes NaN for what is missing.
  return None if value != value else value


def _image(path: pathlib.Path, group: int, column: str, place: int) -> bytes:
  try:
    value = _encoded(path, group, column)[place].as_py()
  except pa.ArrowException as error:
    raise ValueError(f'its image is not readable: {error}') from error
  if isinstance(value, dict):
    data, name = value.get('bytes'), value.get('path')
    if data is None and name is not None:
      raise ValueError(
        f'its image {name!r:.200} is not in the file; --columns=image=COLUMN '
        'names a column of paths'
      )
    value = data
  if not value:
    raise ValueError('its image is missing')
  return value


# The rows of a group are read one after another.
@functools.lru_cache(2)
def _encoded(path: pathlib.Path, group: int, column: str) -> pa.ChunkedArray:
  with pq.ParquetFile(path) as table:
    return table.read_row_group(group, columns=[column])[column]
