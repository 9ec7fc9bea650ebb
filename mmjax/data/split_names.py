"""Finds the splits that files and folders are named after."""

import os
import pathlib
import re
import shlex
from collections.abc import Sequence

from mmjax.errors import ConfigError

# mmjax's name of a split by its published names.
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


def parse(text: str | None) -> dict[str, str]:
  """Reads `--split_names`; returns the splits by the words of the input.

  >>> parse('validation=eval,dev_test=Dev-Test')
  {'eval': 'validation', 'dev-test': 'dev_test'}

  Raises:
    ConfigError: if the text has another form, or names a word twice.
  """
  splits = {}
  for part in filter(None, (text or '').split(',')):
    match = re.fullmatch(r'\s*([a-z][a-z0-9_]*)\s*=\s*(\S.*?)\s*', part)
    if not match or match[1] == 'all':
      raise ConfigError(
        f'split_names {text!r} should read split=word,split=word with splits '
        "of lower-case letters, digits and _, but not 'all', as in "
        "'validation=eval,test=test-dev'"
      )
    word = match[2].lower()
    if word in splits:
      raise ConfigError(f'split_names {text!r} name {match[2]!r} twice')
    splits[word] = match[1]
  return splits


def format_flag(word: str) -> str:
  """Formats a flag that reads a word as a split, quoted for a shell.

  >>> format_flag('eval')
  '--split_names=validation=eval'
  """
  return shlex.quote(f'--split_names=validation={word.strip()}')


def find_split(name: str) -> str | None:
  """Finds the split that a file or folder is named after.

  Returns None if the name has no word for a split, or words for several.

  Words are runs of letters, so that digits may follow.

  >>> find_split('cc3m-train-0000.tar'), find_split('captions_val2014.json')
  ('train', 'validation')
  """
  words = re.findall(r'[^\W\d_]+', name.lower())
  splits = {SPLITS[word] for word in words if word in SPLITS}
  return splits.pop() if len(splits) == 1 else None


def find_splits(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """Finds the splits that paths are named after; omits paths without one.

  The name of the path decides, else those of its parent folders that not all
  paths share, the nearest first.
  """
  if not paths:
    return {}
  absolute = [os.path.abspath(path) for path in paths]
  shared = os.path.commonpath([os.path.dirname(path) for path in absolute])
  splits = {}
  for path, name in zip(paths, absolute, strict=True):
    parts = pathlib.Path(os.path.relpath(name, shared)).parts
    matches = filter(None, map(find_split, reversed(parts)))
    split = next(matches, None)
    if split is not None:
      splits[path] = split
  return splits
