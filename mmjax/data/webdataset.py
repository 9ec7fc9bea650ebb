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
  columns,
  compressed_files,
  extra_fields,
  image_rows,
  import_report,
  raw_records,
  text_files,
)
from mmjax.errors import ConfigError

IMAGE_ENDINGS = (
  *('png', 'jpg', 'jpeg', 'webp', 'gif', 'bmp'),
  *('tif', 'tiff', 'ppm', 'pgm', 'avif'),
)
TEXT_ENDINGS = ('txt', 'caption', 'text')
# Endings of sounds and videos, by the field that they fill.
MEDIA_ENDINGS = {
  kind: tuple(ending[1:] for ending in endings)
  for kind, endings in extra_fields.ENDINGS.items()
}
_READ_ENDINGS = {'json', *IMAGE_ENDINGS, *TEXT_ENDINGS}.union(
  *MEDIA_ENDINGS.values()
)
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
  dotted = _Dotted()
  for path, name in zip(paths, names, strict=True):
    try:
      tar = _decompress(path, name, options.scratch)
      yield from _read_tar(tar, path, options, dotted)
    except (ConfigError, OSError) as error:
      yield raw_records.make_unreadable(path.name, path.name, str(error))
  dotted.note(options)


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
) -> Iterator[raw_records.RawRecord]:
  samples: dict[str, dict[str, _Span]] = {}
  damage = _index_members(tar, samples)
  for key, spans in samples.items():
    sample = _Sample(tar, key, spans, options)
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
      f"{path} can't be read {damage}; {len(samples)} samples before that are "
      'whole',
    )


def _index_members(tar: _Tar, samples: dict[str, dict[str, _Span]]) -> str:
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
        _add(samples.setdefault(key, {}), ending.lower(), span)
        file.members = []  # Frees the descriptions that it collects.
      _check_end(tar.path, file.offset)
  # Broken headers also cause errors of other kinds.
  except (tarfile.TarError, ValueError, OSError, EOFError) as error:
    damage = f'beyond {name or "its beginning"}: {error}'
    # The rest of this sample may be lost.
    samples.pop(key, None)
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

  def read_fields(self) -> raw_records.Fields:
    """Reads the fields of the sample's .json, and its text."""
    duplicates = [end for end in self.spans if end.startswith(_DUPLICATE)]
    if duplicates:
      ending = duplicates[0].removeprefix(_DUPLICATE).strip()
      raise ConfigError(f'its .{ending} occurs twice')
    media = self._list_media()
    if self.spans.keys().isdisjoint(('json', *TEXT_ENDINGS)) and not media:
      raise ConfigError(
        'there is neither a .txt nor a .json among its files '
        f'{self._list_files()}; {_KEYS}'
      )
    fields = {}
    if 'json' in self.spans:
      fields = self._read_json()
    for ending in TEXT_ENDINGS:
      if ending in self.spans:
        text = self._read_text(ending)
        caption = fields.get('caption', [])
        if isinstance(caption, dict):
          fields.setdefault('captions', caption)
          caption = []
        rest = caption if isinstance(caption, list) else [caption]
        fields['caption'] = [text, *rest]
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
    endings = [ending for ending in self.spans if ending in IMAGE_ENDINGS]
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
      f'images end in .{", .".join(IMAGE_ENDINGS)}'
    )

  def _list_media(self) -> dict[str, str]:
    """The ending of the sound and of the video, by field."""
    media = {}
    for kind, endings in MEDIA_ENDINGS.items():
      own = [
        ending
        for ending in self.spans
        if ending in endings and ending not in IMAGE_ENDINGS
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

  def _read_json(self) -> raw_records.Fields:
    try:
      row = text_files.parse_json(self._read_text('json'))
    except ValueError as error:
      raise ConfigError(f'its .json is not valid JSON: {error}') from error
    if not isinstance(row, dict):
      raise ConfigError(f'its .json should hold an object, not {row!r:.80}')
    aliased = ('question', 'answer', 'type')
    if self.spans.keys().isdisjoint(TEXT_ENDINGS):
      aliased += ('caption',)
    names = columns.resolve(tuple(row), self.options.columns, aliased)
    # The image and the id are those of the sample, not of its .json.
    fields = image_rows.rename(row, names)
    return {
      {'image': 'file', 'id': 'own_id'}.get(key, key): value
      for key, value in fields.items()
    }

  def _read_text(self, ending: str) -> str:
    data = _read_bytes(self.tar.path, self.spans[ending])
    encoding = self.options.encoding or 'utf-8-sig'
    try:
      return data.decode(encoding)
    except UnicodeDecodeError as error:
      raise ConfigError(
        f'its .{ending} is not {self.options.encoding or "UTF-8"} '
        f'({error.reason}); name its encoding, for example --encoding=cp1252'
      ) from error


def _read_bytes(path: pathlib.Path, span: _Span) -> bytes:
  offset, size = span
  with path.open('rb') as file:
    file.seek(offset)
    return file.read(size)
