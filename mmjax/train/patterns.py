"""Picking parameters by regular expressions on their paths."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import jax

from mmjax.errors import ConfigError


def names(tree: Any) -> Any:
  """The tree with every leaf replaced by its path, such as 'text/embed/kernel'.

  >>> names({'text': {'bias': 0}})
  {'text': {'bias': 'text/bias'}}
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator='/'), tree
  )


def check(field: str, patterns: Sequence[str], params: Any) -> None:
  """Refuses a pattern that picks nothing, most likely a typing error.

  Args:
    field: dotted name of the config field, for the message.
    patterns: regular expressions, looked for anywhere in a path (`re.search`).
    params: the parameters, or their shapes.

  Raises:
    ConfigError: naming the paths that come nearest.
  """
  paths = jax.tree.leaves(names(params))
  for pattern in patterns:
    try:
      found = any(re.search(pattern, path) for path in paths)
    except re.error as error:
      raise ConfigError(
        f'{field}: {pattern!r} is not a regular expression: {error}'
      ) from None
    if not found:
      raise ConfigError(
        f'{field}: {pattern!r} matches no parameter; near it: '
        + ', '.join(_near(pattern, paths))
      )


def _near(pattern: str, paths: Sequence[str]) -> list[str]:
  """Up to five paths, or beginnings of paths, that resemble the pattern."""
  pieces = set(paths)
  for path in paths:
    parts = path.split('/')
    pieces.update('/'.join(parts[:i]) for i in range(1, len(parts)))
  plain = re.sub(r'[^\w/]', '', pattern)
  close = difflib.get_close_matches(plain, sorted(pieces), n=5, cutoff=0.5)
  return close or sorted({path.split('/')[0] for path in paths})


def mask(patterns: Sequence[str], params: Any) -> Any:
  """Tree of bool: True where any pattern is found in the path."""
  return jax.tree.map(
    lambda path: any(re.search(pattern, path) for pattern in patterns),
    names(params),
  )
