"""Assigns records to splits by a hash, the same on every machine and run."""

import hashlib
import re
from collections.abc import Mapping

from mmjax.errors import ConfigError


def parse_splits(text: str) -> dict[str, float]:
  """Reads split names and their fractions.

  >>> parse_splits('train:0.8,validation:0.1,test:0.1')
  {'train': 0.8, 'validation': 0.1, 'test': 0.1}

  Raises:
    ConfigError: if the text has another form, a name repeats, or the sum of the
      fractions is not 1.
  """
  splits = {}
  for part in text.split(','):
    match = re.fullmatch(r'\s*([a-z]\w*)\s*:\s*([\d.]+)\s*', part)
    if not match:
      raise ConfigError(
        f'splits {text!r} should read name:fraction,name:fraction with names '
        "of letters and fractions from 0 to 1, as in 'train:0.9,test:0.1'"
      )
    name, fraction = match[1], float(match[2])
    if name == 'all':
      raise ConfigError(
        "a split cannot be named 'all', which stands for all of them together"
      )
    if name in splits:
      raise ConfigError(f'splits {text!r} name {name!r} twice')
    splits[name] = fraction
  total = sum(splits.values())
  if abs(total - 1) > 1e-6:
    raise ConfigError(
      f'the fractions of splits {text!r} have the sum {total:g}, not 1'
    )
  return splits


def assign(key: str, splits: Mapping[str, float]) -> str:
  """Returns the split of a key, a function of the key and the fractions alone.

  Adding records to a data set doesn't change the splits of the others.

  Args:
    key: id of a record, or name of a group that must be in one split.
    splits: fractions by name, with a sum of 1.
  """
  digest = hashlib.sha256(key.encode()).digest()
  # 53 bits, the precision of a float, so that the result is below 1.
  position = (int.from_bytes(digest[:8], 'big') >> 11) / 2**53
  for name, fraction in splits.items():
    position -= fraction
    if position < 0:
      return name
  return next(name for name in reversed(splits) if splits[name] > 0)
