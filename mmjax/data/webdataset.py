"""Reads tars in WebDataset layout: KEY.jpg, KEY.txt, KEY.json, KEY.wav."""

import dataclasses
import os
import pathlib
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence

from mmjax.data import (
  compressed_files,
  image_rows,
  import_report,
  raw_records,
  samples,
  text_files,
  texts,
)
from mmjax.errors import ConfigError

_READ_ENDINGS = {
  'json',
  *samples.IMAGE_ENDINGS,
  *samples.TEXT_ENDINGS,
}.union(*samples.MEDIA_ENDINGS.values())
_KEYS = (
  'a key ends at the first dot of a name, so write _ for dots inside a key'
)
# Prefix of the endings of files that a sample has twice.
_DUPLICATE = 'twice'

# Offset and size of a member's bytes in its tar.
_Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Tar:
  """A tar: its name in messages, the path to read, and its damage."""

  name: str
  path: pathlib.Path
  damage: str = ''


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the samples of tars, with members in any order.

  Ids are TAR/KEY with the tar's name, which also becomes the metadata field
  `source`; the key becomes `key`. Tars of one name are distinguished by their
  folders. An unreadable part of a tar becomes a record whose reading raises;
  the other samples are read.

  Args:
    paths: paths of the tars, perhaps compressed.
    options: options of the import; `columns` names the keys of .json files.
  """
  names = _name_tars(paths)
  dotted, long = _Dotted(), _LongTexts()
  for path, name in zip(paths, names, strict=True):
    try:
      tar = _decompress(path, name, options.scratch)
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

  def add(self, key: str, spans: dict[str, _Span]) -> None:
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


def _name_tars(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns each tar's stem, with its folder if stems repeat."""
  stems = [
    path.name.partition('.tar')[0].removesuffix('.tgz') for path in paths
  ]
  if len(set(stems)) == len(stems):
    return stems
  folders = [os.path.abspath(path.parent) for path in paths]
  shared = os.path.commonpath(folders)
  names = [
    posixpath.normpath(posixpath.join(os.path.relpath(folder, shared), stem))
    for folder, stem in zip(folders, stems, strict=True)
  ]
  if len(set(names)) == len(names):
    return names
  # Stems repeat in one folder; their endings differ.
  return [os.path.relpath(path, shared) for path in paths]


def _decompress(
  path: pathlib.Path, name: str, scratch: pathlib.Path | None
) -> _Tar:
  """Returns the tar itself, or an uncompressed copy for random access."""
  compressed = compressed_files.open_compressed(path)
  if compressed is None:
    return _Tar(name, path)
  damage = ''
  with (
    compressed,
    tempfile.NamedTemporaryFile(
      dir=scratch, suffix='.tar', delete=False
    ) as copy,
  ):
    try:
      shutil.copyfileobj(compressed, copy)
    except compressed_files.DamagedError as error:
      damage = str(error)
  return _Tar(name, pathlib.Path(copy.name), damage)


def _read_tar(
  tar: _Tar,
  path: pathlib.Path,
  options: image_rows.Options,
  dotted: _Dotted,
  long: _LongTexts,
) -> Iterator[raw_records.RawRecord]:
  spans_by_key: dict[str, dict[str, _Span]] = {}
  damage = _index_members(tar, spans_by_key)
  for key, spans in spans_by_key.items():
    sample = _Sample(tar, key, spans, options, long)
    dotted.add(key, spans)
    yield raw_records.RawRecord(
      id=f'{tar.name}/{key}',
      where=f'{path.name}: {key}',
      group=key,
      read_fields=sample.read_fields,
      read_image=sample.read_image,
      split=options.splits.get(path),
      read_file=sample.read_file,
    )
  if damage:
    yield raw_records.make_unreadable(
      path.name,
      path.name,
      f"{path} can't be read {damage}; {len(spans_by_key)} samples before that "
      'are whole',
    )


def _index_members(tar: _Tar, spans_by_key: dict[str, dict[str, _Span]]) -> str:
  """Adds a tar's samples by key; returns its damage, '' for none."""
  size = tar.path.stat().st_size
  spans: dict[str, _Span] = {}
  name, key, damage = '', '', ''
  try:
    with tarfile.open(tar.path, 'r:') as file:
      for member in file:
        name = member.name
        span = member.offset_data, member.size
        if member.islnk():
          span = spans.get(member.linkname)
        elif not member.isfile() or member.issparse():
          continue
        folder, base = posixpath.split(name)
        if span is None or base.startswith('.'):
          continue
        base, _, ending = base.partition('.')
        key = posixpath.normpath(posixpath.join(folder, base))
        if sum(span) > size:
          raise tarfile.ReadError('unexpected end of data')
        spans[name] = span
        _add(spans_by_key.setdefault(key, {}), ending.lower(), span)
        file.members = []  # Frees the descriptions that it collects.
      _check_end(tar.path, file.offset)
  # Broken headers also cause errors of other kinds.
  except (tarfile.TarError, ValueError, OSError, EOFError) as error:
    damage = f'beyond {name or "its beginning"}: {error}'
    # The rest of this sample may be lost.
    spans_by_key.pop(key, None)
  return damage or (tar.damage and f'to its end: {tar.damage}')


def _add(spans: dict[str, _Span], ending: str, span: _Span) -> None:
  if ending in spans:
    ending = f'{_DUPLICATE} {ending}'
  spans[ending] = span


def _check_end(path: pathlib.Path, offset: int) -> None:
  """Raises if a tar ends without a mark, which the library doesn't check."""
  if _read_bytes(path, (offset, 512)) != bytes(512):
    raise tarfile.ReadError('the end-of-archive mark is missing')


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
  """The files of one key."""

  tar: _Tar
  key: str
  spans: dict[str, _Span]
  options: image_rows.Options
  long: _LongTexts

  def read_fields(self) -> raw_records.Fields:
    """Reads the fields of the sample's .json, its texts and its class."""
    duplicates = [end for end in self.spans if end.startswith(_DUPLICATE)]
    if duplicates:
      ending = duplicates[0].removeprefix(_DUPLICATE).strip()
      raise ConfigError(f'its .{ending} occurs twice')
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
    elif json_text is None and not contents and not media:
      raise ConfigError(
        'there is neither a .txt nor a .json among its files '
        f'{self._list_files()}; {self._suggest_texts()}'
      )
    return {**fields, **media, 'source': self.tar.name, 'key': self.key}

  def read_file(self, ending: str) -> bytes:
    """Reads the file of an ending, with or without a dot before it."""
    span = self.spans.get(ending.removeprefix('.').lower())
    if span is None:
      raise ConfigError(
        f'there is no file .{ending} among its files {self._list_files()}'
      )
    return _read_bytes(self.tar.path, span)

  def read_image(self) -> bytes:
    """Reads the sample's encoded image, b'' beside a sound or a video."""
    endings = [
      ending for ending in self.spans if ending in samples.IMAGE_ENDINGS
    ]
    if len(endings) == 1:
      return _read_bytes(self.tar.path, self.spans[endings[0]])
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

  def _suggest_texts(self) -> str:
    folder = posixpath.dirname(self.key)
    if not folder:
      return _KEYS
    return (
      f'{_KEYS}; if its folder {folder!r} is its class, unpack the tar and '
      'import it with --format=imagefolder'
    )

  def _read_text(self, ending: str) -> str:
    data = _read_bytes(self.tar.path, self.spans[ending])
    try:
      return text_files.decode(data, self.options.encoding)
    except ConfigError as error:
      raise ConfigError(f'its .{ending}: {error}') from error


def _read_bytes(path: pathlib.Path, span: _Span) -> bytes:
  offset, size = span
  with path.open('rb') as file:
    file.seek(offset)
    return file.read(size)
