"""Input files as people name them: paths, patterns, braces, commas."""

import glob
import os
import pathlib
from collections.abc import Iterator

import bracex

_MOST_FILES = 1_000_000


def find(spec: str) -> list[pathlib.Path]:
  """The files and folders that a specification names, each once.

  A part that exists is that path, whatever characters it has. Otherwise braces
  are expanded, as in `{00000..00099}.tar` and `{train,val}.csv`, then `*`, `?`
  and `[...]`.

  Args:
    spec: a path, a pattern, or several of both with commas between.

  Raises:
    FileNotFoundError: a part names no file, or one of those that its braces
      name is missing.
    ValueError: braces name too many files.
  """
  found = []
  for part in _parts(spec):
    part = os.path.expanduser(part)
    found += [part] if os.path.exists(part) else _expand(part)
  return [pathlib.Path(path) for path in dict.fromkeys(found)]


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
    raise ValueError(
      f'{part!r} names more than {_MOST_FILES:,} files'
    ) from error
  found, missing = [], []
  for name in names:
    matches = [name] if os.path.exists(name) else sorted(glob.glob(name))
    found += matches
    if not matches:
      missing.append(name)
  if missing:
    others = f' ({len(missing)} of {len(names)})' if len(names) > 1 else ''
    raise FileNotFoundError(f'no file matches {missing[0]!r}{others}')
  return found
