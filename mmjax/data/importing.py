"""Imports users' data: `import_data('csv', 'photos.csv', settings)`.

A first pass over the input checks every record with its image and assigns the
records to splits; a second pass reads them again and writes them. Memory holds
no image: only a hash of each, the positions of a tar's files, and the texts of
a table.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tensorflow_datasets as tfds

from mmjax.data import (
  builders,
  checked_records,
  extra_fields,
  formats,
  image_rows,
  import_report,
  input_files,
  raw_records,
  records,
  split_names,
  tokenizers,
)
from mmjax.errors import ConfigError, choose

# Records in which columns of sounds and videos are looked for.
_PROBED_RECORDS = 1000
DEFAULT_SPLITS = {'train': 0.8, 'validation': 0.1, 'test': 0.1}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of an import.

  Attributes:
    name: name of the data set: lower-case letters, digits and _.
    splits: fractions by name, with a sum of 1, which override the input's
      splits; None for the splits that the input names by rows, folders or
      files, or for `DEFAULT_SPLITS` where it names fewer than two.
    split_names: further splits by the lower-case words that a field `split`
      has for them, as `split_names.parse` returns them.
    group_by: field whose values never occur in two splits. Without it, the
      samples of one key stay together. Records whose images, sounds or videos
      have the same bytes are in one split in any case.
    on_error: 'stop', or 'skip' to list unreadable records in
      `import_report.SKIPPED_FILE`.
    language: language to take of captions by language; None for English ones
      and those without a language.
    vocab_size: largest number of ids of the tokenizer.
    lower: whether the tokenizer lower-cases texts.
    text_fields: further text fields that the tokenizer learns from.
    fields: fields that further columns fill; () to find columns of sounds and
      videos.
    tokenizer: path of a tokenizer.json to use instead of learning one.
    options: options of the readers.
  """

  name: str
  splits: Mapping[str, float] | None = None
  split_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
  group_by: str | None = None
  on_error: str = 'stop'
  language: str | None = None
  vocab_size: int = 8192
  lower: bool = False
  text_fields: tuple[str, ...] = ()
  fields: tuple[extra_fields.ExtraField, ...] = ()
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
    if self.splits is not None and self.split_names:
      raise ConfigError(
        '--splits assigns records by a hash, and --split_names reads the '
        "input's splits; leave one out"
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
  """Makes a data set of tars, tables or folders, completely or not at all.

  Args:
    format: one of `formats.FORMATS`.
    input: a file or folder, a pattern, or several separated by commas, as
      `input_files.find` takes them.
    settings: name, splits and further settings of the data set.
    data_dir: folder of all data sets; by default
      `records.get_default_data_dir()`.
    overwrite: whether to replace a data set of this name.
    progress: whether to show a progress line and a report on stderr.

  Returns:
    The folder of the version, with its `dataset_info.json`.

  Raises:
    ConfigError: if the format is unknown, no file matches, a data set of this
      name exists, a record can't be read and `on_error` is 'stop' (it names the
      record and the reason), or nothing is left to import.
  """
  format = choose(format, formats.FORMATS, '--format')
  data_dir = pathlib.Path(
    data_dir or records.get_default_data_dir()
  ).expanduser()
  if not overwrite and records.find_folder(settings.name, data_dir):
    raise ConfigError(
      f'there is a data set {settings.name!r} in {data_dir}; choose another '
      'name, or --overwrite it'
    )
  paths = input_files.find(input)
  if settings.tokenizer is not None:
    tokenizers.Tokenizer.load(settings.tokenizer)  # Fails before the work.
  outcome = import_report.Outcome()
  if format.endings is not None:
    note = outcome.notes.append
    paths = input_files.expand_folders(paths, format.endings, note)
  read = format.import_reader()
  folder = _write(
    read,
    paths,
    settings,
    outcome,
    data_dir=data_dir,
    overwrite=overwrite,
    progress=progress,
  )
  if progress:
    _report(folder, outcome)
  return folder


def _write(
  read: Callable,
  paths: Sequence[pathlib.Path],
  settings: Settings,
  outcome: import_report.Outcome,
  *,
  data_dir: pathlib.Path,
  overwrite: bool,
  progress: bool,
) -> pathlib.Path:
  """Reads the inputs and writes the data set; returns its folder."""
  with builders.make_staging_folder(data_dir) as scratch:
    options = dataclasses.replace(
      settings.options,
      further=extra_fields.list_columns(
        [field for field in settings.fields if field.kind != 'images']
      ),
      several=tuple(
        field.column for field in settings.fields if field.kind == 'images'
      ),
      scratch=pathlib.Path(scratch),
      splits=split_names.find_splits(paths),
      note=outcome.notes.append,
    )

    extra = settings.fields or _infer_fields(read, paths, options, outcome)
    make = functools.partial(
      _make_builder_class(settings, extra),
      lambda: read(paths, options),
      settings,
      outcome,
      is_single=len(paths) == 1,
    )
    return builders.build(
      lambda folder: make(data_dir=folder),
      data_dir,
      overwrite=overwrite,
      progress=progress,
    )


def _infer_fields(
  read: Callable,
  paths: Sequence[pathlib.Path],
  options: image_rows.Options,
  outcome: import_report.Outcome,
) -> tuple[extra_fields.ExtraField, ...]:
  """Finds the columns of sounds and videos in the first records."""
  quiet = dataclasses.replace(options, note=lambda line: None)
  by_name: dict[str, extra_fields.ExtraField] = {}
  for raw in itertools.islice(read(paths, quiet), _PROBED_RECORDS):
    # Unreadable ones are reported when they are imported.
    with contextlib.suppress(ConfigError, OSError):
      for field in extra_fields.infer(raw.read_fields()):
        by_name.setdefault(field.name, field)
  for field in by_name.values():
    outcome.notes.append(
      f'the column {field.column!r} became the field {field.name!r}; '
      '--fields names others'
    )
  return tuple(by_name.values())


def _report(folder: pathlib.Path, outcome: import_report.Outcome) -> None:
  """Prints the size of each split and the notes to stderr."""
  infos = tfds.builder_from_directory(folder).info.splits
  counts = {
    name: infos[name].num_examples if name in infos else 0
    for name in outcome.splits
  }
  print('\n'.join(outcome.format_lines(folder, counts)), file=sys.stderr)


def _make_builder_class(
  settings: Settings, extra: Sequence[extra_fields.ExtraField]
) -> type['_Imported']:
  """Makes a class for one data set: TFDS takes the name from the class."""

  class Imported(_Imported, skip_registration=True):
    name = settings.name
    VERSION = tfds.core.Version('2.0.0')
    VOCAB_SIZE = settings.vocab_size
    LOWER = settings.lower
    EXTRA = tuple(extra)
    SCHEMA = raw_records.make_schema(extra)
    TEXT_FIELDS = settings.text_fields
    SUMMARY = (
      f'Imported by mmjax; splits {dict(settings.splits or DEFAULT_SPLITS)} '
      f'by hash of {settings.group_by or "the image or the row"}, unless the '
      'input names them.'
    )

  return Imported


class _Imported(builders.RecordBuilder, skip_registration=True):
  """Writes the records of a reader.

  Attributes:
    EXTRA: fields that further columns fill.
  """

  EXTRA: tuple[extra_fields.ExtraField, ...] = ()

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

  def read_splits(self) -> dict[str, Iterable[records.Record]]:
    self._outcome.skipped.clear()
    checked = checked_records.CheckedRecords(
      self._settings.group_by,
      self._settings.language,
      keeps_splits=self._settings.splits is None,
      extra=self.EXTRA,
      splits_by_word=self._settings.split_names,
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
        f'there are no records to import; {self._describe_last_skipped()}'
      )
    checked.check_fields()
    records_by_split = self._assign_splits(checked)
    self.progress.begin('writing')
    # TFDS has no empty splits.
    return {
      split: self._read_records(split, records_by_split[split])
      for split in self._outcome.splits
      if records_by_split[split]
    }

  def _assign_splits(
    self, checked: checked_records.CheckedRecords
  ) -> dict[str, list[list[raw_records.RawRecord]]]:
    """Returns the records of each split; updates the outcome."""
    settings, outcome = self._settings, self._outcome
    outcome.published = tuple(checked.find_split_names())
    outcome.unknown_splits = tuple(checked.unknown_splits)
    outcome.is_published = len(outcome.published) > 1
    if outcome.is_published and settings.group_by is not None:
      raise ConfigError(
        f'the input names the splits {", ".join(outcome.published)}, but '
        f'--group_by={settings.group_by} assigns them by a hash; leave it out, '
        'or name fractions as well, '
        '--splits=train:0.8,validation:0.1,test:0.1'
      )
    records_by_split = checked.assign(
      None if outcome.is_published else settings.splits or DEFAULT_SPLITS
    )
    outcome.splits = tuple(records_by_split)
    for keys in checked.find_same_images():
      outcome.add_same_images([checked.raws[key][0] for key in keys])
    return records_by_split

  def _read_records(
    self, split: str, groups: list[list[raw_records.RawRecord]]
  ) -> Iterator[records.Record]:
    count = 0
    for raws in groups:
      parts, image = [], None
      for raw in raws:
        # Checks them again, since files may have changed.
        try:
          image = raw.read_image() if image is None else image
          part = raw_records.to_record(
            raw,
            self._settings.language,
            image=image,
            schema=self.SCHEMA,
            extra=self.EXTRA,
          )
        except (ConfigError, OSError) as error:
          self._refuse(raw, error)
        else:
          parts.append(part)
      if parts:
        count += 1
        yield raw_records.merge(parts)
    if not count:
      raise ConfigError(
        f'split {split} is empty; {self._describe_last_skipped()}'
      )

  def _describe_last_skipped(self) -> str:
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
    """Raises the error of an unreadable record, or adds it to those skipped.

    Args:
      raw: the record.
      error: the error of reading it.
      hint: whether the message suggests to skip such records.
    """
    if self._settings.on_error == 'stop':
      skip = ' (--on_error=skip skips such records)'
      if raw.is_input:
        skip = ' (--on_error=skip imports the rest)'
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
