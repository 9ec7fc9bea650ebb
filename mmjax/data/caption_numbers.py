"""Asks about captions that are numbers, which may be those of classes."""

import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from mmjax.data import captions, image_rows, raw_records, texts
from mmjax.errors import ConfigError

_MOST_ROWS = 1000


def ask(
  raws: Iterable[raw_records.RawRecord],
  path: pathlib.Path,
  options: image_rows.Options,
) -> Iterator[raw_records.RawRecord]:
  """A file's records, or one that can't be read if its captions are numbers.

  Records are held back until one has a caption that is not a number, a thousand
  at most. Where `--columns` names the captions, nothing is asked.
  """
  raws = iter(raws)
  if any(field in ('caption', 'captions') for field, _ in options.columns):
    yield from raws
    return
  waiting, number = [], None
  for raw in itertools.islice(raws, _MOST_ROWS):
    waiting.append(raw)
    values = _captions(raw)
    if not all(map(texts.is_number, values)):
      break
    number = values[0] if number is None and values else number
  else:
    if number is not None:
      reason = (
        f'the captions are numbers, such as {number!r:.40}; if these are '
        'classes, add a column of their names, else name the column of the '
        'captions, --columns=caption=COLUMN'
      )
      yield raw_records.broken(path.name, path.name, reason)
      return
  yield from waiting
  yield from raws


def _captions(raw: raw_records.RawRecord) -> list[Any]:
  try:
    return captions.values(raw.read_fields())
  except (ConfigError, OSError):
    return []  # Whoever imports it reports the reason.
