"""An attention bias for positions relative to each other."""

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.types import Array, Size


class RelativePositions(nn.Module):
  """What each head adds to its logits for how far a key is from a query.

  One number per head and bucket of distances (Raffel et al. 2020, section 2.1);
  all layers of a stack share them.

  Attributes:
    num_heads: number of heads H.
    bidirectional: whether a query may attend to keys behind it too.
    buckets: number of buckets of `ops.relative_buckets`.
    max_distance: where the last of them begins.
  """

  num_heads: Size
  bidirectional: bool
  buckets: Size = 32
  max_distance: Size = 128

  @nn.compact
  def __call__(self, queries: Array, keys: Array) -> Array:
    """The attention bias [B, H, T, S] of positions [B, T] and [B, S]."""
    table = self.param(
      'table',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'heads')
      ),
      (self.buckets, self.num_heads),
      jnp.float32,
    )
    buckets = ops.relative_buckets(
      keys[:, None] - queries[:, :, None],
      self.buckets,
      self.max_distance,
      bidirectional=self.bidirectional,
    )  # [B, T, S]
    return jnp.moveaxis(table[buckets], -1, 1)  # [B, H, T, S]
