"""Reads conversations of LLaVA, ShareGPT, chat templates and the_cauldron.

Only the first question of each and its answer are read.
"""

import pathlib
from collections.abc import Iterator, Sequence

from mmjax.data import (
  image_rows,
  json_files,
  raw_records,
  raw_turns,
)
from mmjax.errors import ConfigError


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads files with one conversation a line, or a list of them."""
  rows = image_rows.ImageRows(options)
  for path in paths:
    for number, where, entry in json_files.read_entries(path, options.encoding):
      name = f'{path.stem}-{number}'
      try:
        if isinstance(entry, ConfigError):
          raise entry
        fields = raw_turns.read_first_turns(entry)
      except ConfigError as error:
        yield raw_records.make_unreadable(name, where, str(error))
      else:
        yield rows.make_record(path.parent, where, name, fields, file=path)
