"""The transformer of the features of a table's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.encoders import rows as rows_lib
from mmjax.encoders import tower
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class TableTransformer(tower.Tower):
  """Makes each feature of a row a token and lets them attend to each other.

  FT-Transformer (Gorishniy et al. 2021, section 3.3): a number times a learned
  vector, or the learned vector of a category, plus a bias of the feature; and a
  class token whose result is the summary. We keep the norm before the first
  attention, which they leave out. Standardise numbers before.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    category_sizes: how many categories each categorical feature has; () if
      there is none.
    pooling: 'first' (the class token), 'mean' or 'attention'.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`; None for its MLPs as ReGLUs,
      `{'activation': 'relu', 'gated': True}`, as in the paper.
    dropout: rate on the tokens before the stack.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  category_sizes: Sequence[int] = ()
  pooling: str = 'first'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.features = FeatureTokens(self.width, self.category_sizes, self.dtype)
    regular = {'activation': 'relu', 'gated': True}
    self.setup_tower(
      initial_norm=False, **(regular if self.block is None else {})
    )

  def __call__(
    self, rows: rows_lib.Row, mask: rows_lib.Row | None = None, *, train: bool
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
      TokenVectors: values [B, 1 + F + C, D], the class token, numbers,
      categories.

    Raises:
      ConfigError: if `rows` have other keys, or their categories are not as
        many as `category_sizes`.
    """
    x, mask = self.embed(rows, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, rows: rows_lib.Row, mask: rows_lib.Row | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns rows into tokens [B, 1 + F + C, D] and their mask."""
    x, mask = self.features(rows, mask)
    return self.embed_dropout(x, deterministic=not train), mask


class FeatureTokens(nn.Module):
  """A class token, and a token a feature (Gorishniy et al. 2021, figure 2).

  Attributes:
    width: number of features D.
    category_sizes: how many categories each categorical feature has.
    dtype: dtype of the computation.
  """

  width: Size
  category_sizes: Sequence[int]
  dtype: Any

  @nn.compact
  def __call__(
    self, rows: rows_lib.Row, mask: rows_lib.Row | None
  ) -> tuple[Array, Array]:
    """Embeds rows as [B, 1 + F + C, D], mask [B, 1 + F + C]."""
    rows = rows_lib.split(rows)
    mask = {} if mask is None else rows_lib.split(mask, of=rows)
    tokens, masks = [], []
    for part, embed in zip(
      rows_lib.PARTS, (self._embed_numbers, self._embed_categories), strict=True
    ):
      if part in rows:
        known = mask.get(part)
        if known is None:
          known = jnp.ones(rows[part].shape, bool)
        tokens.append(embed(ops.zero_masked(rows[part], known)))
        masks.append(known)
    known = jnp.concatenate(masks, axis=1)  # [B, F + C]
    bias = self._make_table('bias', known.shape[1])
    x = jnp.concatenate(tokens, axis=1) + bias[None]  # [B, F + C, D]
    first = self._make_table('class_token', 1)[None]
    first = jnp.broadcast_to(first, (x.shape[0], 1, self.width))
    x = jnp.concatenate([first, x], axis=1)
    any_known = jnp.any(known, axis=1, keepdims=True)
    return x, jnp.concatenate([any_known, known], axis=1)

  def _embed_numbers(self, numbers: Array) -> Array:
    weights = self._make_table('number_weights', numbers.shape[1])  # [F, D]
    return numbers.astype(self.dtype)[:, :, None] * weights[None]

  def _embed_categories(self, categories: Array) -> Array:
    numbers = rows_lib.number_categories(categories, self.category_sizes)
    table = self._make_table('category_table', sum(self.category_sizes))
    return jnp.take(table, numbers, axis=0, mode='fill')  # [B, C, D]

  def _make_table(self, name: str, length: int) -> Array:
    # Uniform within width**-0.5 of 0, as in the paper's code.
    init = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')
    table = self.param(
      name,
      nn.with_logical_partitioning(init, (None, 'embed')),
      (length, self.width),
      jnp.float32,
    )
    return table.astype(self.dtype)
