"""Rows of tables: numbers, categories, and which of them are known."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array

PARTS = ('numbers', 'categories')
Row = Array | Mapping[str, Array]


def split(rows: Row, of: Mapping[str, Array] | None = None) -> dict[str, Array]:
  """Returns the arrays of rows, or of their mask, by the names of `PARTS`.

  Args:
    rows: numbers [B, F], categories [B, C], or a mapping; or a mask of these.
    of: the arrays of the rows, if `rows` is their mask.

  Raises:
    ConfigError: for other keys, for a mapping without any, for one mask of two
      parts, or one of another shape than its part.
  """
  if not isinstance(rows, Mapping):
    if of is not None and len(of) != 1:
      raise ConfigError(
        f'rows with {sorted(of)} need a mask of each; pass a mapping'
      )
    whole = jnp.issubdtype(rows.dtype, jnp.integer)
    rows = {next(iter(of or [PARTS[whole]])): rows}
  legal = PARTS if of is None else tuple(of)
  unknown = sorted(set(rows) - set(legal))
  if unknown or (of is None and not rows):
    raise ConfigError(f'rows have {unknown or "nothing"}; use {legal}')
  for part, array in (of or {}).items():
    ops.check_mask(rows.get(part), array, part, 'B F')
  return dict(rows)


def number_categories(categories: Array, sizes: Sequence[int]) -> Array:
  """Numbers the categories of all features, one feature after the other.

  Args:
    categories: whole numbers [B, C].
    sizes: how many categories each of the C features has.

  Returns:
    Numbers [B, C] below sum(sizes), or sum(sizes) for a category out of range,
    which must not get another feature's.

  Raises:
    ConfigError: if there are not as many features as sizes.
  """
  counts = np.asarray(sizes, np.int32)
  if len(counts) != categories.shape[1]:
    raise ConfigError(
      f'rows have {categories.shape[1]} categorical features, but '
      f'category_sizes {counts.tolist()} are {len(counts)}; give one size each'
    )
  legal = (categories >= 0) & (categories < counts[None])
  numbers = categories + (np.cumsum(counts) - counts)[None]
  return jnp.where(legal, numbers, counts.sum())
