"""Paths of parameters, such as 'text/embed/kernel', and choosing by them."""

import difflib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax.errors import ConfigError
from mmjax.types import Params


def join(path: jax.tree_util.KeyPath) -> str:
  """The keys of a leaf's path with slashes between."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def names(tree: Any) -> Any:
  """The tree with every leaf replaced by its path.

  >>> names({'text': {'bias': 0}})
  {'text': {'bias': 'text/bias'}}
  """
  return jax.tree_util.tree_map_with_path(lambda path, _: join(path), tree)


def flatten(tree: Params) -> dict[str, Any]:
  """A tree's leaves by their paths.

  >>> flatten({'text': {'bias': 2}})
  {'text/bias': 2}
  """
  return {join(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def unflatten(leaves: Mapping[str, Any]) -> Params:
  """The tree of dicts that has these leaves at these paths.

  >>> unflatten({'text/bias': 2})
  {'text': {'bias': 2}}
  """
  out: dict[str, Any] = {}
  for path, leaf in leaves.items():
    *parents, name = path.split('/')
    node = out
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = leaf
  return out


def select(tree: Params, kept: Any) -> Params:
  """The tree of dicts with only the leaves where `kept` is True.

  >>> select(
  ...   {'text': {'bias': 2}, 'scale': 3},
  ...   {'text': {'bias': True}, 'scale': False},
  ... )
  {'text': {'bias': 2}}
  """
  chosen = flatten(kept)
  return unflatten({p: x for p, x in flatten(tree).items() if chosen[p]})


def select_like(tree: Params, like: Params) -> Params:
  """The tree of dicts with only the leaves at the paths of another tree.

  >>> select_like({'text': {'bias': 2}, 'scale': 3}, {'text': {'bias': 0}})
  {'text': {'bias': 2}}
  """
  leaves = flatten(tree)
  return unflatten({path: leaves[path] for path in flatten(like)})


def put(
  tree: Params,
  like: Params,
  convert: Callable[[str, Any], Any] = lambda path, leaf: leaf,
) -> Params:
  """The leaves at the paths of another tree, as that has them.

  Args:
    tree: tree of dicts of arrays.
    like: tree of `jax.ShapeDtypeStruct`; its dtypes and, if set, shardings are
      those of the result.
    convert: function from the path of a leaf and the leaf to what the result
      has in its place.
  """
  return jax.tree.map(
    lambda path, wanted, leaf: convert(
      path,
      jax.device_put(
        leaf.astype(wanted.dtype), getattr(wanted, 'sharding', None)
      ),
    ),
    names(like),
    like,
    select_like(tree, like),
  )


def overlay(tree: Params, part: Params) -> Params:
  """The tree of dicts with the leaves that `part` has replaced or added.

  >>> overlay({'text': {'bias': 2}, 'scale': 3}, {'text': {'bias': 5}})
  {'scale': 3, 'text': {'bias': 5}}
  """
  return unflatten(flatten(tree) | flatten(part))


def checksum(tree: Params) -> int:
  """A number that parameters of other values or names are unlikely to have."""
  number = 0
  for path, leaf in sorted(flatten(tree).items()):
    number = zlib.crc32(path.encode(), number)
    number = zlib.crc32(np.asarray(leaf).tobytes(), number)
  return number


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
