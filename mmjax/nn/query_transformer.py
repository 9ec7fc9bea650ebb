"""A few learned queries that sum up what an encoder returns."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.nn import block as block_lib
from mmjax.nn import dense, norm
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, Size


class QueryTransformer(nn.Module):
  """Sums any number of tokens up in a fixed number of others.

  The querying transformer of BLIP-2 (Li et al. 2023, section 3.1) without its
  texts: learned tokens attend to each other and, in every n-th block, to the
  tokens that they sum up.

  Attributes:
    number: number of queries Q.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    out_width: size of a dense layer after the blocks.
    cross_every: n; the first block is one of those with cross-attention.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation; parameters are float32.
  """

  number: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  out_width: Size
  cross_every: int = 2
  block: Mapping[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None = None, *, train: bool
  ) -> Array:
    """Sums up tokens [B, N, E] in [B, Q, out_width].

    Args:
      values: [B, N, E].
      mask: [B, N], True where a token is real; None means everywhere.
      train: whether dropout is on.
    """
    context = visible_lib.Context(values, mask)
    block = self.block or {}
    queries = self.param(
      'queries',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (self.number, self.width),
      jnp.float32,
    )
    x = jnp.broadcast_to(
      queries[None].astype(self.dtype),
      (values.shape[0], self.number, self.width),
    )  # [B, Q, D]
    x = norm.make_norm(
      block.get('norm', 'layernorm'),
      block.get('norm_epsilon', 1e-6),
      self.dtype,
      name='initial_norm',
    )(x)
    for i in range(self.depth):
      crosses = i % self.cross_every == 0
      x, _ = block_lib.Block(
        self.width,
        self.num_heads,
        self.mlp_dim,
        cross_attention=crosses,
        **block,
        dtype=self.dtype,
        name=f'layers_{i}',
      )(x, context if crosses else None, train=train)
    return dense.Dense(
      self.out_width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(x)
