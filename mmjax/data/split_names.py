"""Splits by what files and folders are called."""

import os
import pathlib
import re
from collections.abc import Sequence

# What published splits are called, and how they are called here.
SPLITS = {
  'train': 'train',
  'training': 'train',
  'restval': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validation': 'validation',
  'dev': 'validation',
  'test': 'test',
  'testing': 'test',
}


def of_name(name: str) -> str | None:
  """The split that a file or folder is named after, None for none or several.

  Words are runs of letters, so that digits may follow.

  >>> of_name('cc3m-train-0000.tar'), of_name('captions_val2014.json')
  ('train', 'validation')
  """
  words = re.findall(r'[^\W\d_]+', name.lower())
  splits = {SPLITS[word] for word in words if word in SPLITS}
  return splits.pop() if len(splits) == 1 else None


def of_paths(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """The splits that some inputs are named after; without those of no split.

  A path's own name decides, else the folders above it that not all paths share,
  from the nearest.
  """
  if not paths:
    return {}
  absolute = [os.path.abspath(path) for path in paths]
  shared = os.path.commonpath([os.path.dirname(path) for path in absolute])
  splits = {}
  for path, name in zip(paths, absolute, strict=True):
    parts = pathlib.Path(os.path.relpath(name, shared)).parts
    found = filter(None, map(of_name, reversed(parts)))
    split = next(found, None)
    if split is not None:
      splits[path] = split
  return splits
