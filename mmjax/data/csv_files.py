"""Reads CSV files with commas, tabs, semicolons or bars between cells."""

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
  raw_turns,
  samples,
  text_files,
)
from mmjax.errors import ConfigError

_IMAGE_ENDINGS = tuple(f'.{ending}' for ending in samples.IMAGE_ENDINGS)


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the rows of files with a header.

  Empty cells are missing fields, except for images and captions. A cell with a
  JSON or Python list, as in ["a dog", "an animal"], is read as a list. An
  unreadable row or header becomes a record whose reading raises.
  """
  rows = image_rows.ImageRows(options)
  for path in paths:
    try:
      raws = _read_file(path, options, rows)
      yield from caption_numbers.refuse(raws, path, options)
    except (ConfigError, OSError) as error:
      yield raw_records.make_unreadable(path.name, path.name, str(error))


def _read_file(
  path: pathlib.Path, options: image_rows.Options, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  table = _Table(path, options)
  for number, cells in table.read_rows():
    where, name = f'{path.name}, line {number}', f'{path.stem}-{number}'
    try:
      fields = table.make_fields(cells)
    except ConfigError as error:
      yield raw_records.make_unreadable(name, where, str(error))
    else:
      yield rows.make_record(path.parent, where, name, fields, file=path)


class _Table:
  """The rows of one file."""

  def __init__(self, path: pathlib.Path, options: image_rows.Options):
    self._options = options
    lines = enumerate(text_files.read_lines(path, options.encoding), 1)
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
    # Spreadsheets write empty columns after the others.
    self._header = _strip_empty(
      [name.strip() for name in self._parse([header])]
    )
    self._names = _name_empty(self._header)
    if not csv_headers.count_known(self._names, options):
      if urls := [name for name in self._names if '://' in name]:
        raise ConfigError(
          f'{path} has no header, and its first line has the URL '
          f'{urls[0]!r:.200}; download the images first, for example with '
          'img2dataset, whose tars --format=webdataset reads'
        )
      raise ConfigError(
        f'{path} has a header with the columns '
        f'{", ".join(map(repr, self._names))}, separated by '
        f'{self._separator!r}, none of which is known, such as '
        f'{", ".join(columns.FIELDS)}; name them with --columns=image=COLUMN,'
        'caption=COLUMN or --fields=NAME=KIND:COLUMN, and the separator with '
        '--separator; if the file has no header, add a line that names the '
        'columns'
      )
    self._fields = options.resolve(self._names)

  def read_rows(self) -> Iterator[tuple[int, list[str] | ValueError]]:
    """Yields each row's first line number, and its cells or the error.

    After a stray quotation mark only the row's first line is lost.
    """
    pending = []
    while True:
      consumed = []

      def feed(consumed=consumed, pending=pending):
        for numbered in itertools.chain(pending, self._lines):
          consumed.append(numbered)
          yield numbered[1]

      try:
        cells = next(self._make_reader(feed()), None)
        error = self._find_error(consumed, cells)
      except csv.Error as failure:
        error = self._make_quote_error(consumed[0][1], failure)
      if not consumed:
        return
      number, line = consumed[0]
      # The lines after a stray quotation mark are read again, one by one.
      pending = (consumed[1:] if error else []) + pending[len(consumed) :]
      unescaped = self._parse_escaped(line) if error else None
      if unescaped:
        yield number, unescaped
      elif error:
        yield number, error
      elif any(cell.strip() for cell in cells):
        yield number, cells

  def make_fields(self, cells: list[str] | ValueError) -> dict[str, Any]:
    """Makes a row's fields, by mmjax's names.

    Raises:
      ConfigError: if there are too many cells, or `cells` is an error.
    """
    if isinstance(cells, ConfigError):
      raise cells
    cells = _strip_empty(cells)
    self._check_cells(cells)
    if len(cells) > len(self._names):
      raise ConfigError(
        f'there are more cells ({len(cells)}) than the {len(self._names)} '
        f'columns {", ".join(self._names)}; cells are separated by '
        f'{self._separator!r}, and a cell that contains it should be in '
        'quotation marks'
      )
    row = {
      name: nested_texts.read(text)
      for name, text in zip(self._names, cells, strict=False)
      if text
    }
    further = self._options.further
    fields = image_rows.complete(
      image_rows.rename(row, self._fields, further), self._fields
    )
    return raw_turns.replace(fields, further)

  def _check_cells(self, cells: list[str]) -> None:
    """Refuses a second header, and a row with another separator."""
    if [cell.strip('\ufeff ') for cell in cells] == self._header:
      raise ConfigError(
        'it repeats the header, as in joined files; delete the line'
      )
    first = self._fields[self._names[0]]
    if len(cells) > 1 or len(self._names) == 1 or first != 'image':
      return
    for separator in csv_headers.SEPARATORS:
      name, *others = cells[0].split(separator)
      if len(others) == len(self._names) - 1 and _is_image_name(name):
        raise ConfigError(
          f'its cells are separated by {separator!r}, but those of the header '
          f'by {self._separator!r}; use one separator in all lines'
        )

  def _make_reader(self, lines: Iterator[str], *, strict: bool = True):
    quoting = csv.QUOTE_MINIMAL if self._options.quotes else csv.QUOTE_NONE
    return csv.reader(
      lines,
      delimiter=self._separator,
      quoting=quoting,
      skipinitialspace=True,
      strict=strict,
    )

  def _parse(self, lines: list[str]) -> list[str]:
    """Splits one line into cells; open quotation marks are allowed."""
    try:
      return next(self._make_reader(iter(lines), strict=False), [])
    except csv.Error:  # A cell exceeds the library's size limit.
      return []

  def _parse_escaped(self, line: str) -> list[str] | None:
    """Splits a line whose quotation marks have backslashes before them.

    Returns None unless the line is then a complete row.
    """
    if '\\"' not in line or not self._options.quotes:
      return None
    try:
      text_files.check(line, self._options.encoding)
      cells = next(self._make_reader(iter([line.replace('\\"', '""')])), [])
    except (csv.Error, ValueError):
      return None
    return cells if len(cells) == len(self._names) else None

  def _find_error(
    self, consumed: list[tuple[int, str]], cells: list[str] | None
  ) -> ConfigError | None:
    """Returns the error of a row, None for a good one."""
    for _, line in consumed:
      try:
        text_files.check(line, self._options.encoding)
      except ValueError as error:
        return error
    for number, line in consumed[1:]:
      if self._is_row(line):
        return self._make_quote_error(
          consumed[0][1], f'it extends into line {number}'
        )
    return None

  def _is_row(self, line: str) -> bool:
    cells = self._parse([line])
    if len(cells) != len(self._names):
      return False
    images = [
      cell
      for cell, name in zip(cells, self._names, strict=True)
      if self._fields[name] == 'image'
    ]
    return any(map(_is_image_name, images))

  def _make_quote_error(self, line: str, why: Any) -> ConfigError:
    if len(line) > csv.field_size_limit():
      return ConfigError(
        f'it has a cell of more than {csv.field_size_limit():,} characters, or '
        'a quotation mark that does not close; write longer texts as JSONL or '
        "Parquet (pandas: to_json('rows.jsonl', orient='records', lines=True))"
      )
    column = min(len(self._parse([line])), len(self._names)) - 1
    return ConfigError(
      f'the quotation mark in column {self._names[column]!r} does not close '
      f'where its cell ends ({why}); double the marks inside a cell, "" for '
      '", or read all marks as text with --quotes=none'
    )


def _is_image_name(text: str) -> bool:
  return text.strip().lower().endswith(_IMAGE_ENDINGS)


def _name_empty(names: Sequence[str]) -> list[str]:
  """Names the columns without a name `unnamed`, `unnamed_2` and so on."""
  taken = {name.lower() for name in names}
  further = itertools.chain(
    ['unnamed'], (f'unnamed_{number}' for number in itertools.count(2))
  )
  free = (name for name in further if name not in taken)
  return [name or next(free) for name in names]


def _strip_empty(cells: list[str]) -> list[str]:
  """Drops the empty cells at the end."""
  count = len(cells)
  while count and not cells[count - 1].strip():
    count -= 1
  return cells[:count]
