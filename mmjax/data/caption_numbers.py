"""Refuses captions that are all numbers, since they may be class labels."""

import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from mmjax.data import captions, image_rows, raw_records, texts
from mmjax.errors import ConfigError

_MAX_ROWS = 1000


def refuse(
  raws: Iterable[raw_records.RawRecord],
  path: pathlib.Path,
  options: image_rows.Options,
) -> Iterator[raw_records.RawRecord]:
  """Yields a file's records, or an unreadable one if all captions are numbers.

  Records are buffered until one has a caption that is not a number, at most a
  thousand. Captions that `--columns` names are not checked.
  """
  raws = iter(raws)
  if any(field in ('caption', 'captions') for field, _ in options.columns):
    yield from raws
    return
  pending, number = [], None
  for raw in itertools.islice(raws, _MAX_ROWS):
    pending.append(raw)
    values = _read_captions(raw)
    if not all(map(texts.is_number, values)):
      break
    number = values[0] if number is None and values else number
  else:
    if number is not None:
      reason = (
        f'the captions are numbers, such as {number!r:.40}; if they are '
        'class labels, add a column with the names of the classes, else name '
        'the column of the captions with --columns=caption=COLUMN'
      )
      yield raw_records.make_unreadable(path.name, path.name, reason)
      return
  yield from pending
  yield from raws


def _read_captions(raw: raw_records.RawRecord) -> list[Any]:
  try:
    return captions.find_values(raw.read_fields())
  except (ConfigError, OSError):
    return []  # The import reports the reason when it reads the record.
