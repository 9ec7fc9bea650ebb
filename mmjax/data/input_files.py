"""Input files as people name them: paths, patterns, braces, commas."""

import glob
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import bracex

from mmjax.data import compressed_files
from mmjax.errors import ConfigError

_MOST_FILES = 1_000_000

_Path = TypeVar('_Path', str, pathlib.Path)


def find(spec: str) -> list[pathlib.Path]:
  """The files and folders that a specification names, each once.

  A part that exists is that path, whatever characters it has. Otherwise braces
  are expanded, as in `{00000..00099}.tar` and `{train,val}.csv`, then `*`, `?`,
  `[...]` and `**`, which stands for folders of any depth, none included.

  Args:
    spec: a path, a pattern, or several of both with commas between.

  Raises:
    ConfigError: a part names no file, or one of those that its braces
      name is missing.
    ConfigError: braces name too many files, or something is named that is
      neither a file nor a folder.
  """
  found = []
  for part in _parts(spec):
    part = os.path.expanduser(part)
    found += [part] if os.path.exists(part) else _expand(part)
  paths = [pathlib.Path(path) for path in found]
  for path in paths:
    check(path)
  return list(dict.fromkeys(paths))


def in_folders(
  paths: Sequence[pathlib.Path],
  endings: Sequence[str],
  note: Callable[[str], None],
) -> list[pathlib.Path]:
  """The files, and for each folder those of some endings that are below it.

  Hidden files and folders are left out.

  Args:
    paths: of files and folders.
    endings: of the names of files, in lower case, compressed or not; without
      any, folders are refused.
    note: takes a line on what is read of each folder.

  Raises:
    ConfigError: a folder has no such file, or is refused.
    OSError: a folder can't be listed.
  """
  found = []
  for path in paths:
    if not path.is_dir():
      found.append(path)
      continue
    if not endings:
      raise ConfigError(
        f'{path} is a folder; name the files in it, for example '
        f'--input={path}/FILE.json'
      )
    files = [file for file in _walk(path) if _ends(file.name, endings)]
    if not files:
      raise ConfigError(
        f'there is no file {", ".join(f"*{end}" for end in endings)} in the '
        f'folder {path} or those below; name the files, or read a folder of '
        'images with --format=imagefolder'
      )
    for file in files:
      check(file)
    files = _once(files)
    note(f'{len(files):,} files of the folder {path} were read')
    found += files
  return list(dict.fromkeys(found))


def _ends(name: str, endings: Sequence[str]) -> bool:
  name = name.lower()
  for ending in compressed_files.ENDINGS:
    name = name.removesuffix(ending)
  return name.endswith(tuple(endings))


def check(path: pathlib.Path) -> None:
  """Raises ConfigError where reading might wait: of pipes and devices."""
  if path.exists() and not path.is_file() and not path.is_dir():
    raise ConfigError(
      f'{path} is a pipe, socket or device, and files are read more than once; '
      'write it to a file first'
    )


def is_hidden(name: str) -> bool:
  """Whether file managers and editors made it, not people."""
  return name.startswith('.') or name == '__MACOSX'


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  for path in sorted(folder.iterdir()):
    if is_hidden(path.name):
      continue
    if path.is_dir() and not is_above(path):
      yield from _walk(path)
    elif not path.is_dir():
      yield path


def is_above(path: pathlib.Path) -> bool:
  """Whether it links to a folder that it is in, so that following it loops."""
  if not path.is_symlink():
    return False
  inside = os.path.join(os.path.realpath(path.parent), '')
  return inside.startswith(os.path.join(os.path.realpath(path), ''))


def _parts(spec: str) -> Iterator[str]:
  """Parts between commas that are neither in braces nor in existing paths."""
  pieces = _outside_braces(spec)
  while pieces:
    for count in range(len(pieces), 0, -1):
      part = ','.join(pieces[:count]).strip()
      if count == 1 or os.path.exists(os.path.expanduser(part)):
        break
    pieces = pieces[count:]
    if part:
      yield part


def _outside_braces(spec: str) -> list[str]:
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
    names = bracex.expand(part, limit=_MOST_FILES)
  except bracex.ExpansionLimitException as error:
    raise ConfigError(
      f'{part!r} names more than {_MOST_FILES:,} files'
    ) from error
  found, missing = [], []
  for name in names:
    matches = [name] if os.path.exists(name) else _glob(name)
    found += matches
    if not matches:
      missing.append(name)
  if missing:
    others = f' ({len(missing)} of {len(names)})' if len(names) > 1 else ''
    skip = '; patterns with * take those that are there' if found else ''
    raise ConfigError(f'no file matches {missing[0]!r}{others}{skip}')
  return found


def _glob(pattern: str) -> list[str]:
  if '**' not in pattern:
    return sorted(glob.glob(pattern))
  paths = sorted(glob.iglob(pattern, recursive=True), key=_depth)
  return sorted(_once(paths))


def _once(paths: Sequence[_Path]) -> list[_Path]:
  """The first path of each file: links lead to some again and again."""
  first = {}
  for path in paths:
    first.setdefault(os.path.realpath(path), path)
  return list(first.values())


def _depth(path: str) -> tuple[int, str]:
  return path.count(os.sep), path
