"""Finds the members of tars, perhaps compressed or damaged, by their keys."""

import dataclasses
import os
import pathlib
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Sequence

from mmjax.data import compressed_files

# Prefix of the endings of files that a sample has twice.
DUPLICATE = 'twice'
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


def index_members(tar: Tar, spans_by_key: dict[str, dict[str, Span]]) -> str:
  """Adds a tar's samples by key; returns its damage, '' for none."""
  size = tar.path.stat().st_size
  spans: dict[str, Span] = {}
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


def _add(spans: dict[str, Span], ending: str, span: Span) -> None:
  if ending in spans:
    ending = f'{DUPLICATE} {ending}'
  spans[ending] = span


def _check_end(path: pathlib.Path, offset: int) -> None:
  """Raises if a tar ends without a mark, which the library doesn't check."""
  if read_bytes(path, (offset, 512)) != bytes(512):
    raise tarfile.ReadError('the end-of-archive mark is missing')


def read_bytes(path: pathlib.Path, span: Span) -> bytes:
  offset, size = span
  with path.open('rb') as file:
    file.seek(offset)
    return file.read(size)
