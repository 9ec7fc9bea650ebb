"""Finds the files that rows name, however their paths are spelt."""

import functools
import ntpath
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from mmjax import errors
from mmjax.errors import ConfigError

# Number of a caption behind a path, as in Flickr8k's `dog.jpg#0`.
_CAPTION_NUMBER = re.compile(r'#\d+$')
# Absolute paths of Windows, with a drive or a server.
_WINDOWS = re.compile(r'\s*([A-Za-z]:[\\/]|\\\\)')


def locate(
  root: str, name: str, endings: Sequence[str] = ()
) -> tuple[str, str]:
  """Returns a file's path below the root, and its real path.

  A file that does not exist is not refused.

  Args:
    root: folder that holds the files.
    name: path of a file, relative to the root.
    endings: endings of which the path may lack one, without dots.

  Raises:
    ConfigError: if it is outside the root, or lacks the ending of several
      files.
  """
  root = os.path.abspath(root)
  path = next(_list_files(root, name), None) or _complete(root, name, endings)
  if path is None and _WINDOWS.match(name):
    raise _make_elsewhere_error(root, name, ntpath.dirname(name.strip()))
  path = path or os.path.normpath(os.path.join(root, name))
  real = resolve_path(path)
  if path.startswith(os.path.join(root, '')):
    return os.path.relpath(path, root), real
  inside = os.path.join(_resolve_folder(root), '')
  if not real.startswith(inside):
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
      raise _make_elsewhere_error(root, name, folder)
    raise ConfigError(
      f'{name!r:.200} is outside {root}; name the folder that holds all '
      f'files, for example --images={folder}'
    )
  return real.removeprefix(inside), real


def read_bytes(path: str | os.PathLike, kind: str) -> bytes:
  """Reads a file that a person names.

  Args:
    path: path of the file, relative to the current folder.
    kind: what it is, for the message, such as 'image'.

  Raises:
    ConfigError: if it can't be read; it has the whole path.
  """
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ConfigError(
      f'{path}: cannot read this {kind}, {errors.reason(error)}: '
      f'{os.path.abspath(path)}'
    ) from error


def _make_elsewhere_error(root: str, name: str, folder: str) -> ConfigError:
  return ConfigError(
    f'there is no folder {folder}, so {name!r:.200} is the path of another '
    f'machine; write paths that are relative to {root}, or to the folder that '
    '--images names'
  )


def _list_files(root: str, name: str) -> Iterator[str]:
  """Yields the existing files of a path's spellings on other systems."""
  for spelling in (
    name,
    name.strip(),
    name.replace('\\', '/'),
    unicodedata.normalize('NFC', name),
    unicodedata.normalize('NFD', name),
    _CAPTION_NUMBER.sub('', name),
  ):
    stem, dot, ending = spelling.rpartition('.')
    for cased in ending, ending.lower(), ending.upper():
      path = os.path.normpath(os.path.join(root, f'{stem}{dot}{cased}'))
      if os.path.isfile(resolve_path(path)):
        yield path


def _complete(root: str, name: str, endings: Sequence[str]) -> str | None:
  """Returns the only existing file whose path lacks its ending."""
  if pathlib.PurePath(name).suffix[1:].lower() in endings:
    return None
  path = os.path.normpath(os.path.join(root, name.strip()))
  found = [
    f'{path}.{ending}'
    for plain in endings
    for ending in (plain, plain.upper())
    if os.path.isfile(f'{path}.{ending}')
  ]
  if len(found) > 1:
    raise ConfigError(
      f'{name!r:.200} could be {found[0]} or {found[1]}; write its ending'
    )
  return found[0] if found else None


def resolve_path(path: str) -> str:
  """Returns the path without links; each folder is resolved once."""
  folder, name = os.path.split(path)
  path = os.path.join(_resolve_folder(folder), name)
  return os.path.realpath(path) if os.path.islink(path) else path


_resolve_folder = functools.lru_cache(4096)(os.path.realpath)
