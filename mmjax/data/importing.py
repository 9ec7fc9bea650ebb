"""Imports people's own data: `import_data('csv', 'photos.csv', settings)`.

One pass over the input deals the records to splits and finds what can't be
read of them; a second reads the images and writes. So no image is kept in
memory: of a tar only the place of every record, of a table also its rows'
texts.
"""

import collections
import dataclasses
import glob
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import tensorflow_datasets as tfds

from mmjax.data import (
  builders,
  raw_records,
  records,
  splitting,
  tables,
  tokenizers,
  webdataset,
)

_READERS: dict[str, Callable[..., Iterable[raw_records.RawRecord]]] = {
  'webdataset': webdataset.read,
  'jsonl': tables.read_jsonl,
  'csv': tables.read_csv,
}
FORMATS = tuple(_READERS)
SKIPPED_FILE = 'skipped.jsonl'


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to import.

  Attributes:
    name: of the data set; lower-case letters, digits and _.
    splits: names with shares that make 1.
    group_by: field whose values are never shared by two splits. Without it, the
      samples of one key stay together.
    on_error: 'stop', or 'skip' to list unreadable records in `SKIPPED_FILE`.
    language: which to take of captions by language.
    vocab_size: most ids of the tokenizer.
    lower: whether the tokenizer lower-cases.
    text_fields: further fields of text that the tokenizer learns from.
    tokenizer: a tokenizer.json to use instead of learning one.
  """

  name: str
  splits: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {'train': 0.8, 'validation': 0.1, 'test': 0.1}
  )
  group_by: str | None = None
  on_error: str = 'stop'
  language: str = 'en'
  vocab_size: int = 8192
  lower: bool = False
  text_fields: tuple[str, ...] = ()
  tokenizer: str | os.PathLike | None = None

  def __post_init__(self):
    if not re.fullmatch('[a-z][a-z0-9_]*', self.name):
      raise ValueError(
        f'name {self.name!r} should start with a letter and have lower-case '
        'letters, digits and _ only'
      )
    if self.on_error not in ('stop', 'skip'):
      raise ValueError(f"on_error {self.on_error!r} should be 'stop' or 'skip'")


def import_data(
  format: str,
  input: str,
  settings: Settings,
  *,
  data_dir: str | os.PathLike | None = None,
  overwrite: bool = False,
  progress: bool = True,
) -> pathlib.Path:
  """Makes a data set of tars or tables; all of it or nothing.

  Args:
    format: one of `FORMATS`.
    input: a file, a pattern, or several of both with commas between.
    settings: name, splits and the like.
    data_dir: where data sets live; by default `records.default_data_dir()`.
    overwrite: whether to replace a data set of this name.
    progress: whether to show a progress line on stderr.

  Returns:
    The folder of the version, which holds `dataset_info.json`.

  Raises:
    ValueError: the format is unknown; a record can't be read and `on_error` is
      'stop', saying which and why; nothing is left to import.
    FileNotFoundError: no file matches.
    FileExistsError: there is a data set of this name.
  """
  if format not in _READERS:
    raise ValueError(
      f'unknown format {format!r}; use one of {", ".join(FORMATS)}'
    )
  data_dir = pathlib.Path(data_dir or records.default_data_dir()).expanduser()
  if not overwrite and records.find_folder(settings.name, data_dir):
    raise FileExistsError(
      f'there is a data set {settings.name!r} in {data_dir}; choose another '
      'name, or --overwrite it'
    )
  paths = _find(input)
  if settings.tokenizer is not None:
    tokenizers.Tokenizer.load(settings.tokenizer)  # Fails now, not at the end.
  skipped = []

  def make(data_dir: str) -> builders.RecordBuilder:
    return _builder_class(settings)(
      lambda: _READERS[format](paths), settings, skipped, data_dir=data_dir
    )

  folder = builders.build(
    make, data_dir, overwrite=overwrite, progress=progress
  )
  if progress:
    _tell(folder, settings, skipped)
  return folder


def _tell(folder: pathlib.Path, settings: Settings, skipped: list) -> None:
  """Says on stderr how many records each split got, and what was left out."""
  infos = tfds.builder_from_directory(folder).info.splits
  counts = {
    name: infos[name].num_examples if name in infos else 0
    for name in settings.splits
  }
  said = ', '.join(f'{name} {count:,}' for name, count in counts.items())
  print(f'records: {said}', file=sys.stderr)
  empty = [name for name, count in counts.items() if not count]
  if empty:
    print(
      f'no record fell to {", ".join(empty)}; with few records, give it a '
      'larger share with --splits and --overwrite',
      file=sys.stderr,
    )
  if skipped:
    print(
      f'{len(skipped)} unreadable: see {folder / SKIPPED_FILE}',
      file=sys.stderr,
    )


def _find(input: str) -> list[pathlib.Path]:
  paths = []
  for pattern in input.split(','):
    pattern = os.path.expanduser(pattern.strip())
    found = sorted(glob.glob(pattern))
    if not found:
      raise FileNotFoundError(f'no file matches {pattern!r}')
    paths += [pathlib.Path(path) for path in found]
  return list(dict.fromkeys(paths))


def _builder_class(settings: Settings) -> type['_Imported']:
  """A class of its own for each name, as TFDS wants it."""

  class Imported(_Imported, skip_registration=True):
    name = settings.name
    VERSION = tfds.core.Version('1.0.0')
    VOCAB_SIZE = settings.vocab_size
    LOWER = settings.lower
    TEXT_FIELDS = settings.text_fields
    SUMMARY = (
      f'Imported by mmjax; splits {dict(settings.splits)} by hash of '
      f'{settings.group_by or "the image"}.'
    )

  return Imported


class _Imported(builders.RecordBuilder, skip_registration=True):
  """Writes what a reader reads."""

  def __init__(
    self,
    read: Callable[[], Iterable[raw_records.RawRecord]],
    settings: Settings,
    skipped: list[dict],
    **kwargs,
  ):
    self._read = read
    self._settings = settings
    self._skipped = skipped
    self._has_image = False
    super().__init__(**kwargs)

  def record_splits(self) -> dict[str, Iterable[records.Record]]:
    # Split -> id -> the raw records that make one together.
    dealt = collections.defaultdict(lambda: collections.defaultdict(list))
    seen = {}
    for raw in self._read():
      try:
        split = self._deal(raw, seen)
      except (ValueError, OSError) as error:
        self._refuse(raw, error)
      else:
        dealt[split][raw.id].append(raw)
    if not dealt:
      raise ValueError(
        f'there are no records to import; {len(self._skipped)} were skipped'
      )
    # TFDS has no empty splits.
    return {
      split: self._records(split, list(dealt[split].values()))
      for split in self._settings.splits
      if dealt[split]
    }

  def _deal(
    self, raw: raw_records.RawRecord, seen: dict[str, tuple[bool, str]]
  ) -> str:
    """Its split; `seen` gets whether it is a part, and its group, by its id."""
    is_part, before = seen.get(raw.id, (True, None))
    if not (is_part and raw.is_part) and before is not None:
      raise ValueError(f'the id {raw.id!r} is taken by a record before it')
    fields = raw.read_fields()
    group = raw.group
    field = self._settings.group_by
    if field is not None:
      if field not in fields:
        raise ValueError(
          f'there is no field {field!r} to group by among {", ".join(fields)}'
        )
      group = str(fields[field])
    if before not in (None, group):
      raise ValueError(
        f'its {field} is {group!r}, but that of a row before it with the same '
        f'image is {before!r}; records of one {field} share a split'
      )
    seen[raw.id] = raw.is_part, group
    return splitting.deal(group, self._settings.splits)

  def _records(
    self, split: str, wholes: list[list[raw_records.RawRecord]]
  ) -> Iterator[records.Record]:
    count = 0
    for raws in wholes:
      parts, image = [], None
      for raw in raws:
        try:
          part = raw_records.to_record(
            raw, self._settings.language, image=image
          )
        except (ValueError, OSError) as error:
          self._refuse(raw, error)
        else:
          image = part['image']
          parts.append(part)
      if parts:
        count += 1
        self._has_image |= bool(image)
        yield raw_records.merge(parts)
    if not count:
      raise ValueError(
        f'none of the {len(wholes)} records of split {split} can be read; the '
        f'last one, {raws[-1].where}: {self._skipped[-1]["reason"]}'
      )

  def _refuse(self, raw: raw_records.RawRecord, error: Exception) -> None:
    """Stops, or remembers a record that can't be read."""
    if self._settings.on_error == 'stop':
      raise ValueError(
        f'{raw.where}: {error} (--on_error=skip leaves such records out)'
      ) from error
    self._skipped.append(
      {'id': raw.id, 'where': raw.where, 'reason': str(error)}
    )

  def write_further_files(self, folder: pathlib.Path) -> None:
    if not self._has_image:
      raise ValueError(
        'no record has an image; name its path in a field `image` (in a CSV '
        'file, a column of that name)'
      )
    if self._settings.tokenizer is None:
      super().write_further_files(folder)
    else:
      tokenizer = tokenizers.Tokenizer.load(self._settings.tokenizer)
      tokenizer.save(folder / records.TOKENIZER_FILE)
    if self._skipped:
      lines = [json.dumps(entry, ensure_ascii=False) for entry in self._skipped]
      text = '\n'.join(lines) + '\n'
      (folder / SKIPPED_FILE).write_text(text, encoding='utf-8')
