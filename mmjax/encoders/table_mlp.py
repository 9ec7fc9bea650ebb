"""The MLP of the features of a table's rows, or of a vector."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import rows as rows_lib
from mmjax.types import Array, DropRate, Size, TokenVectors


class TableMlp(nn.Module):
  """Maps all features of a row, or a vector, to one token.

  The MLP of Gorishniy et al. 2021, section 3.1: linear layers, each but the
  last followed by a ReLU and dropout. A category is one-hot in its input. An
  unknown value counts as 0. Of vectors with thousands of numbers it takes far
  less time than `TableTransformer`, which makes each number a token.

  Attributes:
    width: number of features D of the result.
    depth: number of hidden layers; 0 for one linear map.
    mlp_dim: features of a hidden layer.
    category_sizes: how many categories each categorical feature has; () if
      there is none.
    dropout: rate after each hidden layer.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int = 1
  mlp_dim: Size = 256
  category_sizes: Sequence[int] = ()
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    self.hidden = [
      mnn.Linear(self.mlp_dim, dtype=self.dtype) for _ in range(self.depth)
    ]
    self.last = mnn.Linear(self.width, dtype=self.dtype)
    self.drop = nn.Dropout(self.dropout)

  def __call__(
    self,
    rows: rows_lib.Row,
    mask: rows_lib.Row | None = None,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes rows.

    Args:
      rows: numbers [B, F] floats, or categories [B, C] whole numbers, each
        below its category size; or both, as a mapping with the keys `numbers`
        and `categories`. A category out of range gives NaN.
      mask: mask, as `rows`, True where a value is known; None, or no key, means
        everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, 1, D], masked where nothing of a row is known.

    Raises:
      ConfigError: if `rows` have other keys, or their categories are not as
        many as `category_sizes`.
    """
    x, mask = self.embed(rows, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self,
    rows: rows_lib.Row,
    mask: rows_lib.Row | None = None,
    *,
    train: bool,
  ) -> tuple[Array, Array]:
    """Makes rows vectors [B, 1, F + sum(category_sizes)], with their mask."""
    del train
    rows = rows_lib.split(rows)
    masks = {} if mask is None else rows_lib.split(mask, of=rows)
    columns, known = [], []
    for part in rows_lib.PARTS:
      if part in rows:
        real = masks.get(part)
        if real is None:
          real = jnp.ones(rows[part].shape, bool)
        values = ops.zero_masked(rows[part], real)
        is_number = part == 'numbers'
        columns.append(values if is_number else self._one_hot(values, real))
        known.append(real)
    x = jnp.concatenate(columns, axis=1).astype(self.dtype)
    known = jnp.any(jnp.concatenate(known, axis=1), axis=1)
    return x[:, None], known[:, None]  # [B, 1, E], [B, 1]

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Maps vectors [B, 1, E] to [B, 1, D]."""
    del mask
    for layer in self.hidden:
      x = jax.nn.relu(layer(x, train=train))
      x = self.drop(x, deterministic=not train)
      self.sow('intermediates', 'output', x)
    x = self.last(x, train=train)
    self.sow('intermediates', 'output', x)
    return x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """The only token, [B, D]; sown as `pooled`."""
    del mask, train
    pooled = x[:, 0]
    self.sow('intermediates', 'pooled', pooled)
    return pooled

  def _one_hot(self, categories: Array, known: Array) -> Array:
    """One-hot vectors of categories [B, C], summed to [B, sum(sizes)]."""
    numbers = rows_lib.number_categories(categories, self.category_sizes)
    size = sum(self.category_sizes)
    hot = jax.nn.one_hot(numbers, size)  # [B, C, sum(sizes)]
    hot = jnp.where((numbers < size)[:, :, None], hot, jnp.nan)
    return ops.zero_masked(hot, known).sum(axis=1)
