"""Positions of the tokens of a sequence, and of patches on a grid."""

import math
from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array, Size

_KINDS = ('learned', 'sincos', 'none')


class Positions(nn.Module):
  """One vector per position, to be added to tokens.

  Attributes:
    width: number of features D.
    max_length: most tokens of a sequence, the size of the table.
    kind: 'learned', 'sincos' (Vaswani et al. 2017, section 3.5) or 'none'.
    dtype: dtype of the vectors.
  """

  width: Size
  max_length: Size
  kind: str = 'learned'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, length: int) -> Array:
    """The vectors [1, N, D] of positions 0 to N - 1, where N is `length`.

    Raises:
      ConfigError: if N is more than `max_length`, or the kind is unknown.
    """
    check_choice(self.kind, _KINDS, 'positions')
    if self.kind == 'none':
      return jnp.zeros((1, length, self.width), self.dtype)
    if length > self.max_length:
      raise ConfigError(
        f'the input makes {length} tokens, more than {self.max_length}, for '
        'which there are positions; shorten it or raise that number'
      )
    if self.kind == 'sincos':
      table = ops.sincos_1d(self.max_length, self.width)
    else:
      table = self.param(
        'table',
        nn.with_logical_partitioning(
          nn.initializers.normal(0.02), (None, 'embed')
        ),
        (self.max_length, self.width),
        jnp.float32,
      )
    return table[None, :length].astype(self.dtype)


def check_grid(grid: Sequence[int]) -> tuple[int, int]:
  """The rows and columns of the setting `position_grid`.

  Raises:
    ConfigError: if they are not two whole numbers of 1 or more.
  """
  is_pair = isinstance(grid, Sequence) and len(grid) == 2
  if not is_pair or any(type(n) is not int or n < 1 for n in grid):
    raise ConfigError(
      f'position_grid={grid!r} is not legal; use two whole numbers of 1 or '
      'more, rows and columns'
    )
  return tuple(grid)


def choose_grid(
  rows: int,
  columns: int,
  grid: Sequence[int] | None,
  number: int | None = None,
) -> tuple[int, int]:
  """Rows and columns of a learned table of positions of patches.

  The table is [N, D], and does not say of how many rows its N patches are.
  Without `grid` they are a square, so that others of as many patches are not
  taken for it.

  Args:
    rows: number of rows of the patches at hand.
    columns: number of their columns.
    grid: the setting `position_grid`; None for a table of a square that fits
      one size alone.
    number: N, of the table that there is; None for a new one.

  Raises:
    ConfigError: if the patches are not those of the table, or the setting is
      not legal.
  """
  if grid is not None:
    return check_grid(grid)
  if number is None and rows != columns:
    raise ConfigError(
      f'there are {rows} x {columns} patches, but a table of positions is of '
      f'as many rows as columns; set position_grid=({rows}, {columns})'
    )
  if number is not None and (rows != columns or rows * columns != number):
    side = math.isqrt(number)
    is_square = side * side == number
    own = f'({side}, {side})' if is_square else 'its rows and columns'
    raise ConfigError(
      f'there are {rows} x {columns} patches, but the table of positions is of '
      f'{f"{side} x {side}" if is_square else f"{number}, not of a square"}; '
      f'give images of the same size, or set position_grid={own}, which '
      'resizes the table'
    )
  return rows, columns


def fit_positions(
  table: Array,
  grid: tuple[int, int],
  rows: int,
  columns: int,
  *,
  front: int = 0,
  antialias: bool = False,
) -> Array:
  """Brings a table of positions to another grid of patches.

  Args:
    table: [1, F + N, D], N patches of `grid` behind F other tokens.
    grid: rows and columns of the table.
    rows: number of rows of the patches at hand.
    columns: number of their columns.
    front: F.
    antialias: as of `mmjax.ops.resize_positions`.

  Returns:
    [1, F + rows * columns, D].
  """
  if grid == (rows, columns):
    return table
  patches = ops.resize_positions(
    table[0, front:].reshape(*grid, table.shape[-1]),
    rows,
    columns,
    antialias=antialias,
  )
  patches = einops.rearrange(patches, 'r c d -> 1 (r c) d')
  return jnp.concatenate([table[:, :front], patches], axis=1)
