"""Finds the header of a CSV file and the separator of its cells."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence

from mmjax.data import columns, image_rows

SEPARATORS = (',', '\t', ';', '|')
# Excel's first line, which names the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)

_Lines = Iterator[tuple[int, str]]


def find(
  lines: _Lines, options: image_rows.Options
) -> tuple[str | None, str, _Lines]:
  """Finds a file's header.

  Lines that begin with # before the header are comments, unless the last of
  them names the columns and the line after it doesn't.

  Args:
    lines: (number, line) pairs, from the first line.
    options: options, of which `separator` and `columns` are used.

  Returns:
    The header (None for a file without lines), the separator of its cells, and
    the lines that follow.
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
      guess = separator or _find_separator(line, options)
      if _count_known(line, guess, options):
        return line, guess, lines
      comment_separator = separator or _find_separator(comment, options)
      if _count_known(comment, comment_separator, options):
        return (
          comment,
          comment_separator,
          itertools.chain([(number, line)], lines),
        )
      return line, guess, lines
  separator = separator or _find_separator(comment, options)
  is_header = _count_known(comment, separator, options)
  return comment if is_header else None, separator, lines


def _count_known(line: str, separator: str, options: image_rows.Options) -> int:
  """Counts a line's columns that are known."""
  return count_known(_split_cells(line, separator), options)


def count_known(names: Sequence[str], options: image_rows.Options) -> int:
  """Counts the columns that are known, or that the user names."""
  further = ((name, name) for name in options.further)
  return columns.count_known(names, (*options.columns, *further))


def _find_separator(line: str, options: image_rows.Options) -> str:
  """Returns the separator that gives a line the most known columns."""

  def count(separator):
    names = _split_cells(line, separator)
    return count_known(names, options), len(names)

  return max(SEPARATORS, key=count)


def _split_cells(line: str, separator: str) -> list[str]:
  reader = csv.reader([line], delimiter=separator, skipinitialspace=True)
  try:
    return next(reader, [])
  except csv.Error:  # A cell exceeds the library's size limit.
    return []
