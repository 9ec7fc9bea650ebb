"""The set transformer, for points in any order."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.types import Array, DropRate, Size, TokenVectors


class SetTransformer(nn.Module):
  """Lets the points of a set attend to each other through a few learned ones.

  Lee et al. 2019: blocks with inducing points (ISAB, equations 9 and 10), whose
  cost is linear in N, and one seed that attends to the result (PMA, equation
  11) for the summary. Their feed-forward layers are MLPs of two layers here.
  Norms are before attention and MLP by default; after them, as in the paper,
  they remove the scale of each point.

  Attributes:
    width: number of features D.
    depth: number of blocks with inducing points.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    num_inducing: inducing points of each block.
    block: further settings of `mmjax.nn.Block`; those of the paper are
      `{'norm_position': 'post', 'activation': 'relu'}`.
    dropout: rate on the embedded points.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  num_inducing: Size = 32
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  def setup(self):
    sizes = {
      'width': self.width,
      'num_heads': self.num_heads,
      'mlp_dim': self.mlp_dim,
      'block': self.block or {},
      'dtype': self.dtype,
    }
    self.projection = mnn.Linear(self.width, dtype=self.dtype)
    self.embed_dropout = nn.Dropout(self.dropout)
    self.blocks = [
      InducedBlock(self.num_inducing, **sizes) for _ in range(self.depth)
    ]
    self.pool_mlp = mnn.Mlp(self.width, self.mlp_dim, dtype=self.dtype)
    self.seed = LearnedQueries(1, **sizes)

  def __call__(
    self, points: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes sets of points.

    Args:
      points: [B, N, 3 + C] floats, positions and C further values.
      mask: [B, N], True where a point is real; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], permuted as the points are; pooled doesn't
      depend on their order.

    Raises:
      ConfigError: if `num_heads` doesn't divide `width`, or a norm of `block`
        is unknown.
    """
    x, mask = self.embed(points, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, points: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Projects [B, N, 3 + C]: vectors [B, N, D] and a mask [B, N]."""
    ops.check_mask(mask, points, 'points', 'B N')
    if mask is None:
      mask = jnp.ones(points.shape[:2], bool)
    x = self.projection(ops.zero_masked(points, mask), train=train)
    return self.embed_dropout(x, deterministic=not train), mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Applies the blocks to [B, N, D]."""
    for block in self.blocks:
      x = block(x, mask, train=train)
    return x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises [B, N, D] as [B, D]; sown as `pooled`."""
    x = self.pool_mlp(x, train=train)
    pooled = self.seed(x, mask, train=train)[:, 0]
    self.sow('intermediates', 'pooled', pooled)
    return pooled


class LearnedQueries(nn.Module):
  """A number of learned vectors attend to a set.

  The first half of ISAB, and PMA (Lee et al. 2019, equations 9 and 11).

  Attributes:
    number: number of queries Q.
    width: number of features D.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLP.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation.
  """

  number: Size
  width: Size
  num_heads: Size
  mlp_dim: Size
  block: Mapping[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises [B, N, E] as [B, Q, D]."""
    queries = self.param(
      'queries',
      nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      (self.number, self.width),
      jnp.float32,
    )
    queries = jnp.broadcast_to(
      queries[None].astype(self.dtype), (x.shape[0], *queries.shape)
    )
    return _attend(self, 'block', queries, x, mask, train)


class InducedBlock(nn.Module):
  """Points attend to learned ones, which attended to the points (ISAB).

  Attributes:
    num_inducing: m, number of learned points.
    width: number of features D.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation.
  """

  num_inducing: Size
  width: Size
  num_heads: Size
  mlp_dim: Size
  block: Mapping[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Transforms [B, N, D]; points without `mask` [B, N] change no others."""
    induced = LearnedQueries(
      self.num_inducing,
      self.width,
      self.num_heads,
      self.mlp_dim,
      self.block,
      self.dtype,
      name='inducing',
    )(x, mask, train=train)  # [B, m, D]
    x = _attend(self, 'points', x, induced, None, train)
    self.sow('intermediates', 'output', x)
    return x


def _attend(
  owner: LearnedQueries | InducedBlock,
  name: str,
  x: Array,
  context: Array,
  mask: Array | None,
  train: bool,
) -> Array:
  """A block (MAB) of cross-attention from x [B, T, D] to context [B, S, E]."""
  y, _ = mnn.Block(
    owner.width,
    owner.num_heads,
    owner.mlp_dim,
    self_attention=False,
    cross_attention=True,
    **owner.block,
    dtype=owner.dtype,
    parent=owner,
    name=name,
  )(x, mnn.Context(context, mask), train=train)
  return y
