"""Finds the members of tars, perhaps compressed or damaged, by their keys."""

import dataclasses
import functools
import os
import pathlib
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Sequence

from mmjax.data import compressed_files, input_files

# What is wrong with a file, by the word before its ending and `FAULT`.
FAULTS = {
  'twice': 'occurs twice',
  'link': 'is a link to a file that the tar lacks; pack the files themselves, '
  'for example with tar --dereference',
  'sparse': 'is a sparse file, which is not read; pack it without holes, that '
  'is, without --sparse',
}
_MAX_LINKS = 40
FAULT = '\0'  # No name in a tar has this character.
# Offset and size of a member's bytes in its tar.
Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Tar:
  """A tar: its name in messages, the path to read, and its damage."""

  name: str
  path: pathlib.Path
  damage: str = ''


def name_tars(paths: Sequence[pathlib.Path]) -> list[str]:
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


def decompress(
  path: pathlib.Path, name: str, scratch: pathlib.Path | None
) -> Tar:
  """Returns the tar itself, or an uncompressed copy for random access."""
  compressed = compressed_files.open_compressed(path)
  if compressed is None:
    return Tar(name, path)
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
  return Tar(name, pathlib.Path(copy.name), damage)


@dataclasses.dataclass
class _Members:
  """The members of a tar that are files, by their normalised names.

  Attributes:
    spans: spans of files.
    targets: the names that links lead to.
  """

  spans: dict[str, Span] = dataclasses.field(default_factory=dict)
  targets: dict[str, str] = dataclasses.field(default_factory=dict)

  def find_span(self, name: str) -> Span | None:
    """Finds the file that a link leads to, perhaps through others."""
    for _ in range(_MAX_LINKS):
      if name not in self.targets:
        break
      name = self.targets[name]
    return self.spans.get(name)

  @functools.cached_property
  def folders(self) -> set[str]:
    """Names of the folders of all files."""
    return {
      str(folder)
      for name in self.spans
      for folder in pathlib.PurePosixPath(name).parents
    }


def index_members(tar: Tar, spans_by_key: dict[str, dict[str, Span]]) -> str:
  """Adds a tar's samples by key; returns its damage, '' for none.

  The ending of a file that can't be read has a word of `FAULTS` before it.
  Hidden files are left out, as are links to folders.
  """
  size = tar.path.stat().st_size
  members = _Members()
  name, damage = '', ''
  try:
    with tarfile.open(tar.path, 'r:') as file:
      for member in file:
        name = posixpath.normpath(member.name)
        if _is_hidden(name):
          continue
        if member.issym():
          link = posixpath.join(posixpath.dirname(name), member.linkname)
          members.targets[name] = posixpath.normpath(link)
        elif member.islnk():
          members.targets[name] = posixpath.normpath(member.linkname)
        elif member.isfile():
          span = member.offset_data, member.size
          if member.issparse():
            _add(spans_by_key, name, span, 'sparse')
          elif sum(span) > size:
            raise tarfile.ReadError('unexpected end of data')
          else:
            members.spans[name] = span
            _add(spans_by_key, name, span)
        file.members = []  # Frees the descriptions that it collects.
      _check_end(tar.path, file.offset)
  # Broken headers also cause errors of other kinds.
  except (tarfile.TarError, ValueError, OSError, EOFError) as error:
    damage = f'beyond {name or "its beginning"}: {error}'
    # The rest of this sample may be lost.
    spans_by_key.pop(_split_name(name)[0], None)
  for link, target in members.targets.items():
    span = members.find_span(link)
    if span is not None:
      _add(spans_by_key, link, span)
    elif target not in members.folders:
      _add(spans_by_key, link, (0, 0), 'link')
  return damage or (tar.damage and f'to its end: {tar.damage}')


def _is_hidden(name: str) -> bool:
  parts = (part for part in name.split('/') if part != '..')
  return any(map(input_files.is_hidden, parts))


def _split_name(name: str) -> tuple[str, str]:
  """Splits a name into the key and the lower-case ending."""
  folder, base = posixpath.split(name)
  base, _, ending = base.partition('.')
  return posixpath.join(folder, base), ending.lower()


def _add(
  spans_by_key: dict[str, dict[str, Span]],
  name: str,
  span: Span,
  fault: str = '',
) -> None:
  key, ending = _split_name(name)
  spans = spans_by_key.setdefault(key, {})
  if ending in spans:
    fault = 'twice'
  spans[f'{fault}{FAULT}{ending}' if fault else ending] = span


def _check_end(path: pathlib.Path, offset: int) -> None:
  """Raises if a tar ends without a mark, which the library doesn't check."""
  if read_bytes(path, (offset, 512)) != bytes(512):
    raise tarfile.ReadError('the end-of-archive mark is missing')


def read_bytes(path: pathlib.Path, span: Span) -> bytes:
  offset, size = span
  with path.open('rb') as file:
    file.seek(offset)
    return file.read(size)
