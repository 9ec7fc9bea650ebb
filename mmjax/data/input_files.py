"""Finds the input files that a user names by paths, patterns and braces."""

import glob
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import bracex

from mmjax.data import compressed_files
from mmjax.errors import ConfigError

_MAX_FILES = 1_000_000

# Names that macOS, Windows and Synology give to files and folders of theirs.
_JUNK = frozenset(
  ('__macosx', 'thumbs.db', 'ehthumbs.db', 'desktop.ini', 'icon\r', '@eadir')
  + ('$recycle.bin', 'system volume information', 'lost+found')
)

_Path = TypeVar('_Path', str, pathlib.Path)


def find(spec: str) -> list[pathlib.Path]:
  """Finds the files and folders that a specification names, without duplicates.

  A part that exists is that path, whatever characters it has. Otherwise braces
  are expanded, as in `{00000..00099}.tar` and `{train,val}.csv`, then `*`, `?`,
  `[...]` and `**`, which matches any number of nested folders, also none.

  Args:
    spec: a path, a pattern, or several of both separated by commas.

  Raises:
    ConfigError: if a part matches no file, a file that its braces name is
      missing, braces name too many files, or a path is neither a file nor a
      folder.
  """
  names = []
  for part in _split_parts(spec):
    part = os.path.expanduser(part)
    names += [part] if os.path.exists(part) else _expand(part)
  paths = [pathlib.Path(path) for path in names]
  for path in paths:
    check(path)
  return list(dict.fromkeys(paths))


def expand_folders(
  paths: Sequence[pathlib.Path],
  endings: Sequence[str],
  note: Callable[[str], None],
) -> list[pathlib.Path]:
  """Replaces each folder by the files below it that have one of some endings.

  Hidden files and folders are left out.

  Args:
    paths: paths of files and folders.
    endings: lower-case endings of file names, before that of a compression;
      if empty, folders are refused.
    note: function that reports one line about each folder.

  Raises:
    ConfigError: if a folder has no such file, or is refused.
    OSError: if a folder can't be listed.
  """
  files_found = []
  for path in paths:
    if not path.is_dir():
      files_found.append(path)
      continue
    if not endings:
      raise ConfigError(
        f'{path} is a folder; name the files in it, for example '
        f'--input={path}/FILE.json'
      )
    files = [file for file in _walk(path) if _has_ending(file.name, endings)]
    if not files:
      raise ConfigError(
        f'there is no file {", ".join(f"*{end}" for end in endings)} in the '
        f'folder {path} or those below; name the files, or read a folder of '
        'images with --format=imagefolder'
      )
    for file in files:
      check(file)
    files = _drop_duplicates(files)
    note(f'{len(files):,} files of the folder {path} were read')
    files_found += files
  return list(dict.fromkeys(files_found))


def _has_ending(name: str, endings: Sequence[str]) -> bool:
  name = name.lower()
  for ending in compressed_files.ENDINGS:
    name = name.removesuffix(ending)
  return name.endswith(tuple(endings))


def check(path: pathlib.Path) -> None:
  """Raises ConfigError for pipes and devices, which can't be read twice."""
  if path.exists() and not path.is_file() and not path.is_dir():
    raise ConfigError(
      f'{path} is a pipe, socket or device, and files are read more than once; '
      'write it to a file first'
    )


def is_hidden(name: str) -> bool:
  """Whether a name is that of a hidden file, or of one a file manager made."""
  return name.startswith('.') or name.lower() in _JUNK


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  for path in sorted(folder.iterdir()):
    if is_hidden(path.name):
      continue
    if path.is_dir() and not is_loop(path):
      yield from _walk(path)
    elif not path.is_dir():
      yield path


def is_loop(path: pathlib.Path) -> bool:
  """Whether a path is a link to one of its own parents, also through links."""
  if not path.is_symlink():
    return False
  target = os.path.join(os.path.realpath(path), '')
  return any(
    os.path.join(os.path.realpath(parent), '').startswith(target)
    for parent in path.absolute().parents
  )


def _split_parts(spec: str) -> Iterator[str]:
  """Splits at commas that are neither in braces nor in existing paths."""
  pieces = _split_outside_braces(spec)
  while pieces:
    for count in range(len(pieces), 0, -1):
      part = ','.join(pieces[:count]).strip()
      if count == 1 or os.path.exists(os.path.expanduser(part)):
        break
    pieces = pieces[count:]
    if part:
      yield part


def _split_outside_braces(spec: str) -> list[str]:
  pieces, depth = [''], 0
  for character in spec:
    depth += (character == '{') - (character == '}')
    if character == ',' and depth <= 0:
      pieces.append('')
    else:
      pieces[-1] += character
  return pieces


def _expand(part: str) -> list[str]:
  try:
    names = bracex.expand(part, limit=_MAX_FILES)
  except bracex.ExpansionLimitException as error:
    raise ConfigError(
      f'{part!r} names more than {_MAX_FILES:,} files'
    ) from error
  paths, unmatched = [], []
  for name in names:
    matches = [name] if os.path.exists(name) else _glob(name)
    paths += matches
    if not matches:
      unmatched.append(name)
  if unmatched:
    if '://' in part or part.startswith('pipe:'):
      raise ConfigError(
        f'{part!r} is a URL or a command; download the files first, and name '
        'those'
      )
    others = f' ({len(unmatched)} of {len(names)})' if len(names) > 1 else ''
    skip = '; patterns with * take the files that exist' if paths else ''
    if '::' in part:
      skip = '; separate paths with commas, not with ::'
    raise ConfigError(f'no file matches {unmatched[0]!r}{others}{skip}')
  return paths


def _glob(pattern: str) -> list[str]:
  if '**' not in pattern:
    return sorted(glob.glob(pattern))
  paths = sorted(glob.iglob(pattern, recursive=True), key=_get_depth)
  return sorted(_drop_duplicates(paths))


def _drop_duplicates(paths: Sequence[_Path]) -> list[_Path]:
  """Returns the first path of each file: links may lead to it repeatedly."""
  first = {}
  for path in paths:
    first.setdefault(os.path.realpath(path), path)
  return list(first.values())


def _get_depth(path: str) -> tuple[int, str]:
  return path.count(os.sep), path
