"""Fusions by a tensor product of modalities, whole or of low rank.

Published for two or three modalities; all here take any number from two on.
"""

from typing import ClassVar

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.fusion import features, modalities
from mmjax.types import Array, Size

# Number of products above which `TensorFusion` is refused.
MAX_PRODUCTS = 2**20


class TensorFusion(features.FeatureFusion):
  """A dense layer on all products of features of all modalities.

  Each modality is projected to h_m [size]; the outer product of the vectors
  [1, h_m] has all products of one feature of each of some modalities (Zadeh et
  al. 2017, section 4, the tensor fusion layer). An absent modality is [1, 0].

  Attributes:
    size: number of features of each modality in the product.
  """

  minimum: ClassVar[int] = 2

  size: Size = 15

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]; ConfigError if the product is too large."""
    del train
    number = (self.size + 1) ** len(pooled)
    if number > MAX_PRODUCTS:
      raise ConfigError(
        f'size {self.size} makes {number} products of {len(pooled)} '
        f'modalities, more than {MAX_PRODUCTS}; use a smaller size, or '
        "name='low_rank'"
      )
    x = nn.relu(self.project(pooled, self.size))
    x = ops.zero_masked(x, present)  # [B, m, size]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 0)), constant_values=1)
    out = x[:, 0]
    for i in range(1, x.shape[1]):
      out = jnp.einsum('bp,bq->bpq', out, x[:, i])
      out = einops.rearrange(out, 'b p q -> b (p q)')
    return modalities.make_projection(self.width, self.dtype, 'output')(out)


class LowRankFusion(features.FeatureFusion):
  """Tensor fusion whose dense layer is a sum of `rank` products.

  h = sum over r of the product over m of W_m^r [x_m, 1] (Liu et al. 2018,
  section 3, with factors of each modality): as many products as `TensorFusion`
  has, without computing them. An absent modality is [0, 1].

  Attributes:
    rank: number of products R.
  """

  minimum: ClassVar[int] = 2

  rank: Size = 4

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del present, train
    out = jnp.ones((), self.dtype)
    for name, vector in pooled.items():
      # The bias is the column of the 1, and starts as the others do: from 0, an
      # absent modality would make all 0.
      start = nn.initializers.normal((vector.shape[-1] + 1) ** -0.5)
      factor = modalities.make_projection(
        self.rank * self.width, self.dtype, f'{name}_factor', start
      )(vector)
      out = out * _split_rank(factor, self.rank)
    bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      (self.width,),
      jnp.float32,
    )
    return out.sum(axis=1) + bias[None].astype(self.dtype)


class Mutan(features.FeatureFusion):
  """Tucker fusion whose core has slices of rank R.

  Each modality is projected to `size` with a hyperbolic tangent, then R times
  to `size` again; their products are summed over R (Ben-younes et al. 2017,
  section 3), and a dense layer follows. An absent modality is a factor
  of 1.

  Attributes:
    size: number of features of each modality, and of the sum.
    rank: number of products R.
  """

  minimum: ClassVar[int] = 2

  size: Size = 64
  rank: Size = 5

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    x = jnp.tanh(self.project(pooled, self.size))  # [B, m, size]
    small = {name: x[:, i] for i, name in enumerate(pooled)}
    factors = self.project(
      small, self.rank * self.size, 'core', use_bias=False
    )  # [B, m, R * size]
    out = _split_rank(features.multiply(factors, present), self.rank)
    return modalities.make_projection(self.width, self.dtype, 'output')(
      out.sum(axis=1)
    )


class BlockFusion(features.FeatureFusion):
  """BLOCK: several small Tucker fusions side by side.

  Each modality is projected to `size` and cut into C chunks. A chunk of one
  modality meets that of another only, in a sum of R products, normalised by a
  signed square root and to length 1 (Ben-younes et al. 2019, section 3). A
  dense layer follows. An absent modality is a factor of 1.

  Attributes:
    size: number of features of each modality, and of the sum.
    chunks: number of chunks C, which divides `size`.
    rank: number of products R in a chunk.
  """

  minimum: ClassVar[int] = 2

  size: Size = 64
  chunks: Size = 4
  rank: Size = 5

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]; ConfigError if C doesn't divide `size`."""
    del train
    if self.size % self.chunks:
      raise ConfigError(
        f'size {self.size} is not divisible by chunks {self.chunks}; use a '
        'multiple'
      )
    x = self.project(pooled, self.size)  # [B, m, size]
    factors = jnp.stack(
      [self._apply_core(name, x[:, i]) for i, name in enumerate(pooled)], axis=1
    )  # [B, m, C, R, size / C]
    out = features.multiply(factors, present).sum(axis=2)  # [B, C, size / C]
    out = ops.unit_norm(take_signed_root(out)).astype(self.dtype)
    out = einops.rearrange(out, 'b c s -> b (c s)')
    return modalities.make_projection(self.width, self.dtype, 'output')(out)

  def _apply_core(self, name: str, x: Array) -> Array:
    """Maps each chunk of [B, size] to R others, [B, C, R, size / C]."""
    length = self.size // self.chunks
    core = self.param(
      f'{name}_core',
      nn.with_logical_partitioning(
        nn.initializers.lecun_normal(in_axis=1, out_axis=(2, 3), batch_axis=0),
        (None, None, None, None),
      ),
      (self.chunks, length, self.rank, length),
      jnp.float32,
    )
    x = einops.rearrange(x, 'b (c s) -> b c s', c=self.chunks)
    return jnp.einsum('bcs,csrt->bcrt', x, core.astype(self.dtype))


def take_signed_root(x: Array) -> Array:
  """sign(x) sqrt(|x|), with a finite gradient at 0: there it is linear."""
  return x * (jnp.abs(x) + 1e-6) ** -0.5


def _split_rank(x: Array, rank: int) -> Array:
  """Splits the last axis [B, R * D] as [B, R, D]."""
  return einops.rearrange(x, 'b (r d) -> b r d', r=rank)
