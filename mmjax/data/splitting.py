"""Dealing records to splits by a hash, the same on every machine and run."""

import hashlib
import re
from collections.abc import Mapping

from mmjax.errors import ConfigError


def parse_splits(text: str) -> dict[str, float]:
  """Reads split names and their shares.

  >>> parse_splits('train:0.8,validation:0.1,test:0.1')
  {'train': 0.8, 'validation': 0.1, 'test': 0.1}

  Raises:
    ConfigError: it doesn't read so, a name repeats, or the shares don't make 1.
  """
  splits = {}
  for part in text.split(','):
    match = re.fullmatch(r'\s*([a-z]\w*)\s*:\s*([\d.]+)\s*', part)
    if not match:
      raise ConfigError(
        f'splits {text!r} should read name:share,name:share with names of '
        "letters and shares from 0 to 1, as in 'train:0.9,test:0.1'"
      )
    name, share = match[1], float(match[2])
    if name == 'all':
      raise ConfigError(
        "no split can be called 'all', which stands for all of them together"
      )
    if name in splits:
      raise ConfigError(f'splits {text!r} name {name!r} twice')
    splits[name] = share
  total = sum(splits.values())
  if abs(total - 1) > 1e-6:
    raise ConfigError(f'the shares of splits {text!r} make {total:g}, not 1')
  return splits


def deal(key: str, splits: Mapping[str, float]) -> str:
  """The split of a key: a function of the key and the shares alone.

  Adding records to a data set moves none of the others.

  Args:
    key: what must stay together, such as a record's id or its group.
    splits: names with shares that make 1.
  """
  digest = hashlib.sha256(key.encode()).digest()
  # 53 bits: all that a float can hold, so that it stays below 1.
  place = (int.from_bytes(digest[:8], 'big') >> 11) / 2**53
  for name, share in splits.items():
    place -= share
    if place < 0:
      return name
  return next(name for name in reversed(splits) if splits[name] > 0)
