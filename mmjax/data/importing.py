"""Imports people's own data: `import_data('csv', 'photos.csv', settings)`.

One pass over the input checks every record with its image, and deals the
records to splits; a second one reads them again and writes. So no image is kept
in memory: of a tar only where every record's bytes are, of a table also its
rows' texts, of an image a hash.
"""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import tensorflow_datasets as tfds

from mmjax.data import (
  builders,
  checked_records,
  formats,
  image_rows,
  import_report,
  input_files,
  raw_records,
  records,
  split_names,
  tokenizers,
)
from mmjax.errors import ConfigError

DEFAULT_SPLITS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to import.

  Attributes:
    name: of the data set; lower-case letters, digits and _.
    splits: names with shares that make 1, whatever the input names; None for
      the splits that it names, by rows, folders or files, and for
      `DEFAULT_SPLITS` where it names fewer than two.
    group_by: field whose values are never shared by two splits. Without it, the
      samples of one key stay together. Records whose images have the same bytes
      are of one split in any case.
    on_error: 'stop', or 'skip' to list unreadable records in
      `import_report.SKIPPED_FILE`.
    language: which to take of captions by language; None for captions without
      a language and English ones.
    vocab_size: most ids of the tokenizer.
    lower: whether the tokenizer lower-cases.
    text_fields: further fields of text that the tokenizer learns from.
    tokenizer: a tokenizer.json to use instead of learning one.
    options: how to read the input.
  """

  name: str
  splits: Mapping[str, float] | None = None
  group_by: str | None = None
  on_error: str = 'stop'
  language: str | None = None
  vocab_size: int = 8192
  lower: bool = False
  text_fields: tuple[str, ...] = ()
  tokenizer: str | os.PathLike | None = None
  options: image_rows.Options = dataclasses.field(
    default_factory=image_rows.Options
  )

  def __post_init__(self):
    if not re.fullmatch('[a-z][a-z0-9_]*', self.name):
      raise ConfigError(
        f'name {self.name!r} should start with a letter and have lower-case '
        'letters, digits and _ only'
      )
    if self.on_error not in ('stop', 'skip'):
      raise ConfigError(
        f"on_error {self.on_error!r} should be 'stop' or 'skip'"
      )


def import_data(
  format: str,
  input: str,
  settings: Settings,
  *,
  data_dir: str | os.PathLike | None = None,
  overwrite: bool = False,
  progress: bool = True,
) -> pathlib.Path:
  """Makes a data set of tars, tables or folders; all of it or nothing.

  Args:
    format: one of `formats.FORMATS`.
    input: a file or folder, a pattern, or several with commas between; see
      `input_files.find`.
    settings: name, splits and the like.
    data_dir: where data sets live; by default `records.default_data_dir()`.
    overwrite: whether to replace a data set of this name.
    progress: whether to show a progress line on stderr.

  Returns:
    The folder of the version, which holds `dataset_info.json`.

  Raises:
    ConfigError: the format is unknown; a record can't be read and `on_error` is
      'stop', saying which and why; nothing is left to import.
    ConfigError: no file matches.
    ConfigError: there is a data set of this name.
  """
  if format not in formats.FORMATS:
    raise ConfigError(
      f'unknown format {format!r}; use one of {", ".join(formats.FORMATS)}'
    )
  data_dir = pathlib.Path(data_dir or records.default_data_dir()).expanduser()
  if not overwrite and records.find_folder(settings.name, data_dir):
    raise ConfigError(
      f'there is a data set {settings.name!r} in {data_dir}; choose another '
      'name, or --overwrite it'
    )
  paths = input_files.find(input)
  if settings.tokenizer is not None:
    tokenizers.Tokenizer.load(settings.tokenizer)  # Fails now, not at the end.
  outcome = import_report.Outcome()
  endings = formats.FORMATS[format].endings
  if endings is not None:
    paths = input_files.in_folders(paths, endings, outcome.notes.append)
  read = formats.FORMATS[format].reader()
  with builders.staging(data_dir) as scratch:
    options = dataclasses.replace(
      settings.options,
      scratch=pathlib.Path(scratch),
      splits=split_names.of_paths(paths),
      note=outcome.notes.append,
    )

    def make(data_dir: str) -> builders.RecordBuilder:
      return _builder_class(settings)(
        lambda: read(paths, options),
        settings,
        outcome,
        is_single=len(paths) == 1,
        data_dir=data_dir,
      )

    folder = builders.build(
      make, data_dir, overwrite=overwrite, progress=progress
    )
  if progress:
    _report(folder, outcome)
  return folder


def _report(folder: pathlib.Path, outcome: import_report.Outcome) -> None:
  """Prints to stderr what each split has, and what was noticed."""
  infos = tfds.builder_from_directory(folder).info.splits
  counts = {
    name: infos[name].num_examples if name in infos else 0
    for name in outcome.splits
  }
  print('\n'.join(outcome.lines(folder, counts)), file=sys.stderr)


def _builder_class(settings: Settings) -> type['_Imported']:
  """A class of its own for each name, as TFDS wants it."""

  class Imported(_Imported, skip_registration=True):
    name = settings.name
    VERSION = tfds.core.Version('1.0.0')
    VOCAB_SIZE = settings.vocab_size
    LOWER = settings.lower
    TEXT_FIELDS = settings.text_fields
    SUMMARY = (
      f'Imported by mmjax; splits {dict(settings.splits or DEFAULT_SPLITS)} '
      f'by hash of {settings.group_by or "the image"}, unless the input names '
      'them.'
    )

  return Imported


class _Imported(builders.RecordBuilder, skip_registration=True):
  """Writes what a reader reads."""

  def __init__(
    self,
    read: Callable[[], Iterable[raw_records.RawRecord]],
    settings: Settings,
    outcome: import_report.Outcome,
    *,
    is_single: bool,
    **kwargs,
  ):
    self._read = read
    self._settings = settings
    self._outcome = outcome
    self._is_single = is_single
    super().__init__(**kwargs)

  def record_splits(self) -> dict[str, Iterable[records.Record]]:
    self._outcome.skipped.clear()
    checked = checked_records.CheckedRecords(
      self._settings.group_by,
      self._settings.language,
      keeps_splits=self._settings.splits is None,
    )
    self.progress.begin('checking')
    for raw in self._read():
      self.progress.tick()
      try:
        checked.add(raw)
      except (ConfigError, OSError) as error:
        is_all = raw.is_input and self._is_single and not checked.raws
        self._refuse(raw, error, hint=not is_all)
    if not checked.raws:
      raise ConfigError(
        f'there are no records to import; {self._last_refused()}'
      )
    if not any(checked.digests.values()):
      fields = next(iter(checked.raws.values()))[0].read_fields()
      raise ConfigError(
        f'no record has an image; name the column of its path, here one of '
        f'{", ".join(fields)}, with --columns=image=COLUMN'
      )
    dealt = self._deal(checked)
    self.progress.begin('writing')
    # TFDS has no empty splits.
    return {
      split: self._records(split, dealt[split])
      for split in self._outcome.splits
      if dealt[split]
    }

  def _deal(
    self, checked: checked_records.CheckedRecords
  ) -> dict[str, list[list[raw_records.RawRecord]]]:
    """The records of each split; fills in the outcome."""
    settings, outcome = self._settings, self._outcome
    outcome.published = tuple(checked.split_names())
    outcome.is_published = len(outcome.published) > 1
    if outcome.is_published and settings.group_by is not None:
      raise ConfigError(
        f'the input names the splits {", ".join(outcome.published)}, but '
        f'--group_by={settings.group_by} deals by a hash; leave it out, '
        'or name shares as well, --splits=train:0.8,validation:0.1,test:0.1'
      )
    dealt = checked.deal(
      None if outcome.is_published else settings.splits or DEFAULT_SPLITS
    )
    outcome.splits = tuple(dealt)
    for keys in checked.same_images():
      outcome.add_same_images([checked.raws[key][0] for key in keys])
    return dealt

  def _records(
    self, split: str, wholes: list[list[raw_records.RawRecord]]
  ) -> Iterator[records.Record]:
    count = 0
    for raws in wholes:
      parts, image = [], None
      for raw in raws:
        # Once more, since files may have changed.
        try:
          image = raw.read_image() if image is None else image
          part = raw_records.to_record(
            raw, self._settings.language, image=image
          )
        except (ConfigError, OSError) as error:
          self._refuse(raw, error)
        else:
          parts.append(part)
      if parts:
        count += 1
        yield raw_records.merge(parts)
    if not count:
      raise ConfigError(f'split {split} is empty; {self._last_refused()}')

  def _last_refused(self) -> str:
    skipped = self._outcome.skipped
    if not skipped:
      return 'the input has none'
    last = skipped[-1]
    return (
      f'{len(skipped)} were skipped, the last one, {last["where"]}: '
      f'{last["reason"]}'
    )

  def _refuse(
    self, raw: raw_records.RawRecord, error: Exception, *, hint: bool = True
  ) -> None:
    """Stops, or remembers a record that can't be read.

    Args:
      raw: the record.
      error: why it can't be read.
      hint: whether skipping it leaves anything to import.
    """
    if self._settings.on_error == 'stop':
      skip = ' (--on_error=skip leaves such records out)'
      if raw.is_input:
        skip = ' (--on_error=skip imports what can be read besides)'
      raise ConfigError(
        f'{raw.where}: {error}{skip if hint else ""}'
      ) from error
    self._outcome.skipped.append(
      {'id': raw.id, 'where': raw.where, 'reason': str(error)}
    )

  def write_further_files(self, folder: pathlib.Path) -> None:
    if self._settings.tokenizer is None:
      super().write_further_files(folder)
    else:
      tokenizer = tokenizers.Tokenizer.load(self._settings.tokenizer)
      tokenizer.save(folder / records.TOKENIZER_FILE)
    self._outcome.write_skipped(folder)
