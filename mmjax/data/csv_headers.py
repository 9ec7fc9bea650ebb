"""The header of a CSV file, and what separates its cells."""

import csv
import itertools
import re
from collections.abc import Iterator

from mmjax.data import columns, image_rows

_SEPARATORS = (',', '\t', ';', '|')
# Excel's first line, which says what separates the cells.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)

_Lines = Iterator[tuple[int, str]]


def find(
  lines: _Lines, options: image_rows.Options
) -> tuple[str | None, str, _Lines]:
  """The header, what separates its cells, and the lines that follow.

  Lines that begin with # before the header are comments, unless the last of
  them names the columns and the line behind it doesn't.

  Args:
    lines: numbers and lines, from the first.
    options: of which `separator` is taken, if there is one.

  Returns:
    None for the header of a file without any.
  """
  separator, comment = options.separator, ''
  for number, line in lines:
    text = line.strip('\r\n')
    match = _SEPARATOR_LINE.fullmatch(text)
    if match:
      separator = separator or match[1]
    elif text.lstrip().startswith('#'):
      comment = line.lstrip().lstrip('#')
    elif text.strip():
      chosen = separator or _separator(line, options)
      if _known(line, chosen, options):
        return line, chosen, lines
      found = separator or _separator(comment, options)
      if _known(comment, found, options):
        return comment, found, itertools.chain([(number, line)], lines)
      return line, chosen, lines
  separator = separator or _separator(comment, options)
  is_header = _known(comment, separator, options)
  return comment if is_header else None, separator, lines


def _known(line: str, separator: str, options: image_rows.Options) -> int:
  """How many columns of a line are known."""
  return columns.known(_cells(line, separator), options.columns)


def _separator(line: str, options: image_rows.Options) -> str:
  """The separator by which a line has most columns that are known."""

  def count(separator):
    names = _cells(line, separator)
    return columns.known(names, options.columns), len(names)

  return max(_SEPARATORS, key=count)


def _cells(line: str, separator: str) -> list[str]:
  reader = csv.reader([line], delimiter=separator, skipinitialspace=True)
  try:
    return next(reader, [])
  except csv.Error:  # One is longer than the library reads.
    return []
