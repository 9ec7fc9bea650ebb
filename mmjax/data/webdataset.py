"""Reads tars in WebDataset layout: KEY.jpg, KEY.txt, KEY.json, KEY.wav."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from mmjax.data import (
  class_folders,
  folder_contents,
  image_rows,
  import_report,
  raw_records,
  samples,
  tar_files,
  text_files,
  texts,
)
from mmjax.errors import ConfigError

_READ_ENDINGS = {
  'json',
  *samples.IMAGE_ENDINGS,
  *samples.TEXT_ENDINGS,
}.union(*samples.MEDIA_ENDINGS.values())
_MARKS = f'[.{tar_files.FAULT}]'
_KEYS = (
  'a key ends at the first dot of a name, so write _ for dots inside a key'
)


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the samples of tars, with members in any order.

  Ids are TAR/KEY with the tar's name, which also becomes the metadata field
  `source`; the key becomes `key`. Tars of one name are distinguished by their
  folders. In a tar without texts, the folder of each image is its class, as in
  `image_folders`. An unreadable part of a tar becomes a record whose reading
  raises; the other samples are read.

  Args:
    paths: paths of the tars, perhaps compressed.
    options: options of the import; `columns` names the keys of .json files.
  """
  names = tar_files.name_tars(paths)
  dotted, long = _Dotted(), _LongTexts()
  for path, name in zip(paths, names, strict=True):
    try:
      tar = tar_files.decompress(path, name, options.scratch)
      yield from _read_tar(tar, path, options, dotted, long)
    except (ConfigError, OSError) as error:
      yield raw_records.make_unreadable(path.name, path.name, str(error))
  dotted.note(options)
  if long.count:
    options.note(
      f'{long.count:,} texts in tars have several lines, and are one caption '
      'each; a list `captions` in a .json holds several captions'
    )


@dataclasses.dataclass
class _LongTexts:
  """Counts the samples with a text of several lines."""

  count: int = 0
  last: str = ''

  def add(self, key: str) -> None:
    """Counts a sample; once where it is read twice in a row."""
    self.count += key != self.last
    self.last = key


@dataclasses.dataclass
class _Dotted:
  """Images and texts that are ignored because their names have dots."""

  count: int = 0
  first: list[str] = dataclasses.field(default_factory=list)

  def add(self, key: str, spans: dict[str, tar_files.Span]) -> None:
    for ending in spans:
      _, dot, last = ending.rpartition('.')
      if dot and last in _READ_ENDINGS:
        self.count += 1
        if len(self.first) <= import_report.MAX_SHOWN:
          self.first.append(f'{key}.{ending}')

  def note(self, options: image_rows.Options) -> None:
    if self.count:
      options.note(
        f'{self.count:,} files in tars were ignored, since {_KEYS}: '
        f'{import_report.shorten(self.first)}'
      )


def _read_tar(
  tar: tar_files.Tar,
  path: pathlib.Path,
  options: image_rows.Options,
  dotted: _Dotted,
  long: _LongTexts,
) -> Iterator[raw_records.RawRecord]:
  spans_by_key: dict[str, dict[str, tar_files.Span]] = {}
  damage = tar_files.index_members(tar, spans_by_key)
  folders = _find_folders(tar, path, spans_by_key, options)
  has_classes = folders is not None
  _leave_out_others(path, spans_by_key, options, has_classes=has_classes)
  for key, spans in spans_by_key.items():
    sample = _Sample(tar, key, spans, options, long, folders)
    dotted.add(key, spans)
    yield raw_records.RawRecord(
      id=f'{tar.name}/{key}',
      where=f'{path.name}: {key}',
      group=key,
      read_fields=sample.read_fields,
      read_image=sample.read_image,
      split=(folders and folders.find_split(key)) or options.splits.get(path),
      read_file=sample.read_file,
    )
  if folders is not None:
    classes = [folders.find_labels(key) for key in spans_by_key]
    names = {labels[0] for labels in classes if len(labels) == 1}
    class_folders.note(path, names, len(classes), options)
  if damage:
    yield raw_records.make_unreadable(
      path.name,
      path.name,
      f"{path} can't be read {damage}; {len(spans_by_key)} samples before that "
      'are whole',
    )


@dataclasses.dataclass(frozen=True)
class _Folders:
  """The folders of a tar without texts, which are named after classes.

  Attributes:
    splits: splits by the names of the top folders; empty if there are none.
  """

  splits: Mapping[str, str]

  def find_split(self, key: str) -> str | None:
    """Returns the split of a sample's top folder."""
    top, slash, _ = key.partition('/')
    return self.splits.get(top) if slash else None

  def find_labels(self, key: str) -> list[str]:
    """Returns the names of a sample's folders, without that of its split."""
    return key.split('/')[bool(self.splits) : -1]


def _find_folders(
  tar: tar_files.Tar,
  path: pathlib.Path,
  spans_by_key: Mapping[str, Mapping[str, tar_files.Span]],
  options: image_rows.Options,
) -> _Folders | None:
  """Returns the folders of the samples; None if a sample has a text or class.

  Raises:
    ConfigError: if only some of the top folders are named after splits.
  """
  names, objects = [], []
  for key, spans in spans_by_key.items():
    if not spans.keys().isdisjoint((*samples.TEXT_ENDINGS, 'cls')):
      return None
    objects += [spans['json']] if 'json' in spans else []
    names += [
      f'{key}.{end}' for end in spans if end in _READ_ENDINGS - {'json'}
    ]
  if not any('/' in name for name in names):
    return None
  if objects:
    try:
      text = text_files.decode(
        tar_files.read_bytes(tar.path, objects[0]), options.encoding
      )
      if samples.has_texts(samples.make_fields([], text, options)):
        return None
    except ConfigError:
      return None  # Reading the sample reports it.
  contents = folder_contents.Contents(path, images=names)
  return _Folders(folder_contents.find_splits(contents))


def _leave_out_others(
  path: pathlib.Path,
  spans_by_key: dict[str, dict[str, tar_files.Span]],
  options: image_rows.Options,
  *,
  has_classes: bool,
) -> None:
  """Removes, and notes, samples of other files, such as README.md.

  Nothing is removed if there are only such samples, so that their errors name
  the reason.
  """
  known = {*_READ_ENDINGS, *samples.FOREIGN_ENDINGS}
  known ^= {'json'} if has_classes else {'cls'}
  others = {
    key: spans
    for key, spans in spans_by_key.items()
    # Behind dots and faults, too: reading such a sample names the reason.
    if known.isdisjoint(re.split(_MARKS, end)[-1] for end in spans)
  }
  if len(others) == len(spans_by_key):
    return
  for key in others:
    del spans_by_key[key]
  if others:
    names = [f'{key}.{end}' for key, spans in others.items() for end in spans]
    options.note(
      f'{len(names):,} files in {path} were ignored: '
      f'{import_report.count_endings(names)}'
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
  """The files of one key."""

  tar: tar_files.Tar
  key: str
  spans: dict[str, tar_files.Span]
  options: image_rows.Options
  long: _LongTexts
  folders: _Folders | None = None

  def read_fields(self) -> raw_records.Fields:
    """Reads the fields of the sample's .json, its texts and its class."""
    for ending in self.spans:
      fault, mark, ending = ending.rpartition(tar_files.FAULT)
      if mark:
        raise ConfigError(f'its .{ending} {tar_files.FAULTS[fault]}')
    media = self._list_media()
    contents = [
      self._read_text(ending)
      for ending in samples.TEXT_ENDINGS
      if ending in self.spans
    ]
    for text in contents:
      if samples.is_long(text):
        self.long.add(f'{self.tar.name}/{self.key}')
    json_text = self._read_text('json') if 'json' in self.spans else None
    fields = samples.make_fields(contents, json_text, self.options)
    if 'cls' in self.spans and not samples.has_texts(fields):
      label = self._read_text('cls').strip()
      fields |= {'caption': self._name_class(label), 'label': label}
    elif self.folders is not None and not samples.has_texts(fields):
      label = class_folders.find(
        self.folders.find_labels(self.key),
        'unpack the tar and import the inner folders with '
        '--format=imagefolder, or add a KEY.txt with a caption for each image',
      )
      fields = {'caption': label.replace('_', ' '), 'label': label} | fields
    elif json_text is None and not contents and not media:
      raise ConfigError(
        'there is neither a .txt nor a .json among its files '
        f'{self._list_files()}; {_KEYS}'
      )
    return {**fields, **media, 'source': self.tar.name, 'key': self.key}

  def read_file(self, ending: str) -> bytes:
    """Reads the file of an ending, with or without a dot before it."""
    span = self.spans.get(ending.removeprefix('.').lower())
    if span is None:
      raise ConfigError(
        f'there is no file .{ending} among its files {self._list_files()}'
      )
    return tar_files.read_bytes(self.tar.path, span)

  def read_image(self) -> bytes:
    """Reads the sample's encoded image, b'' beside a sound or a video."""
    endings = [
      ending for ending in self.spans if ending in samples.IMAGE_ENDINGS
    ]
    if len(endings) == 1:
      return tar_files.read_bytes(self.tar.path, self.spans[endings[0]])
    if endings:
      raise ConfigError(
        f'there is more than one image among its files {self._list_files()}'
      )
    if self._list_media():
      return b''
    raise ConfigError(
      f'there is no image among its files {self._list_files()}; {_KEYS}, and '
      f'images end in .{", .".join(samples.IMAGE_ENDINGS)}'
    )

  def _list_media(self) -> dict[str, str]:
    """The ending of the sound and of the video, by field."""
    media = {}
    for kind, endings in samples.MEDIA_ENDINGS.items():
      own = [
        ending
        for ending in self.spans
        if ending in endings and ending not in samples.IMAGE_ENDINGS
      ]
      if len(own) > 1:
        raise ConfigError(
          f'there is more than one {kind} among its files {self._list_files()}'
        )
      if own:
        media[kind] = f'.{own[0]}'
    return media

  def _list_files(self) -> str:
    return ', '.join(f'.{ending}' for ending in self.spans)

  def _name_class(self, label: str) -> str:
    """Returns the caption of a sample that has a .cls alone."""
    if texts.is_number(label):
      raise ConfigError(
        f'its .cls is the number {label} of a class, and it has no text; add a '
        'KEY.txt with the name of the class, or a caption'
      )
    return label.replace('_', ' ')

  def _read_text(self, ending: str) -> str:
    data = tar_files.read_bytes(self.tar.path, self.spans[ending])
    try:
      return text_files.decode(data, self.options.encoding)
    except ConfigError as error:
      raise ConfigError(f'its .{ending}: {error}') from error
