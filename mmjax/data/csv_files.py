"""Reads CSV files, with commas, tabs, semicolons or bars between cells."""

import csv
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from mmjax.data import (
  caption_numbers,
  columns,
  csv_headers,
  image_rows,
  nested_texts,
  raw_records,
  text_files,
)
from mmjax.errors import ConfigError

_IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.gif', '.bmp', '.tif')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The rows of files with a header; empty cells are absent fields, but images.

  A cell that is a JSON list, as in ["a dog", "an animal"], or a Python list is
  read as one. A row that can't be read, and a file whose header can't, is a
  record whose reading raises.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    try:
      raws = _read_file(path, options, rows)
      yield from caption_numbers.ask(raws, path, options)
    except (ConfigError, OSError) as error:
      yield raw_records.broken(path.name, path.name, str(error))


def _read_file(
  path: pathlib.Path, options: image_rows.Options, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  table = _Table(path, options)
  for number, cells in table.rows():
    where, name = f'{path.name}, line {number}', f'{path.stem}-{number}'
    try:
      fields = table.fields(cells)
    except ConfigError as error:
      yield raw_records.broken(name, where, str(error))
    else:
      yield rows.record(path.parent, where, name, fields, file=path)


class _Table:
  """The rows of one file."""

  def __init__(self, path: pathlib.Path, options: image_rows.Options):
    self._options = options
    lines = enumerate(text_files.lines(path, options.encoding), 1)
    header, self._separator, self._lines = csv_headers.find(lines, options)
    if header is None:
      raise ConfigError(f'{path} has no header line naming its columns')
    if '\0' in header or header.startswith('PK\3\4'):
      raise ConfigError(
        f'{path} is not a text file: it begins with {header[:16]!a}; save the '
        'table as CSV'
      )
    text_files.check(header, options.encoding)
    if len(header) > csv.field_size_limit():
      raise ConfigError(
        f'the first line of {path} is too long for a header: '
        f'{len(header):,} characters'
      )
    # Spreadsheets write empty columns behind the others.
    self._names = _without_end([name.strip() for name in self._parse([header])])
    if not columns.known(self._names, options.columns):
      raise ConfigError(
        f'{path} has a header with the columns '
        f'{", ".join(map(repr, self._names))}, separated by '
        f'{self._separator!r}, none of which is known, such as '
        f'{", ".join(columns.FIELDS)}; name them with --columns=image=COLUMN,'
        'caption=COLUMN, and what stands between them with --separator; if the '
        'file has no header, add a line that names the columns'
      )
    self._fields = columns.resolve(tuple(self._names), options.columns)

  def rows(self) -> Iterator[tuple[int, list[str] | ValueError]]:
    """Each row's first line, and its cells or why they can't be read.

    A row with a stray quotation mark costs its first line only.
    """
    waiting = []
    while True:
      used = []

      def feed(used=used, waiting=waiting):
        for numbered in itertools.chain(waiting, self._lines):
          used.append(numbered)
          yield numbered[1]

      try:
        cells = next(self._reader(feed()), None)
        error = self._wrong(used, cells)
      except csv.Error as failure:
        error = self._quote_error(used[0][1], failure)
      if not used:
        return
      number, line = used[0]
      # What a quotation mark swallowed is read again, line by line.
      waiting = (used[1:] if error else []) + waiting[len(used) :]
      escaped = self._escaped(line) if error else None
      if escaped:
        yield number, escaped
      elif error:
        yield number, error
      elif any(cell.strip() for cell in cells):
        yield number, cells

  def fields(self, cells: list[str] | ValueError) -> dict[str, Any]:
    """A row's fields by our names.

    Raises:
      ConfigError: there are too many cells, or it is that error.
    """
    if isinstance(cells, ConfigError):
      raise cells
    cells = _without_end(cells)
    if len(cells) > len(self._names):
      raise ConfigError(
        f'there are more cells ({len(cells)}) than the {len(self._names)} '
        f'columns {", ".join(self._names)}; cells are separated by '
        f'{self._separator!r}, and one that has it should stand in quotation '
        'marks'
      )
    row = {
      name: nested_texts.read(text)
      for name, text in zip(self._names, cells, strict=False)
      if text
    }
    return image_rows.complete(
      image_rows.rename(row, self._fields), self._fields
    )

  def _reader(self, lines: Iterator[str], *, strict: bool = True):
    quoting = csv.QUOTE_MINIMAL if self._options.quotes else csv.QUOTE_NONE
    return csv.reader(
      lines,
      delimiter=self._separator,
      quoting=quoting,
      skipinitialspace=True,
      strict=strict,
    )

  def _parse(self, lines: list[str]) -> list[str]:
    """The cells of a line by itself, its quotation marks closed or not."""
    try:
      return next(self._reader(iter(lines), strict=False), [])
    except csv.Error:  # A cell longer than the library reads.
      return []

  def _escaped(self, line: str) -> list[str] | None:
    """The cells of a line whose quotation marks have backslashes before them.

    None unless the line makes a whole row so.
    """
    if '\\"' not in line or not self._options.quotes:
      return None
    try:
      text_files.check(line, self._options.encoding)
      cells = next(self._reader(iter([line.replace('\\"', '""')])), [])
    except (csv.Error, ValueError):
      return None
    return cells if len(cells) == len(self._names) else None

  def _wrong(
    self, used: list[tuple[int, str]], cells: list[str] | None
  ) -> ConfigError | None:
    """Why the lines of a row are not one, if so."""
    for _, line in used:
      try:
        text_files.check(line, self._options.encoding)
      except ValueError as error:
        return error
    for number, line in used[1:]:
      if self._is_row(line):
        return self._quote_error(used[0][1], f'it takes in line {number}')
    return None

  def _is_row(self, line: str) -> bool:
    cells = self._parse([line])
    if len(cells) != len(self._names):
      return False
    found = [
      cell
      for cell, name in zip(cells, self._names, strict=True)
      if self._fields[name] == 'image'
    ]
    return any(cell.strip().lower().endswith(_IMAGE_ENDINGS) for cell in found)

  def _quote_error(self, line: str, why: Any) -> ConfigError:
    if len(line) > csv.field_size_limit():
      return ConfigError(f'it can not be read: {why}')
    place = min(len(self._parse([line])), len(self._names)) - 1
    return ConfigError(
      f'the quotation mark in column {self._names[place]!r} does not close '
      f'where its cell ends ({why}); double the marks inside a cell, "" for '
      '", or read all marks as text with --quotes=none'
    )


def _without_end(cells: list[str]) -> list[str]:
  """The cells up to the last one that is not empty."""
  count = len(cells)
  while count and not cells[count - 1].strip():
    count -= 1
  return cells[:count]
