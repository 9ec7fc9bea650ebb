"""Compact and factorised bilinear fusions.

Published for two modalities; all here take any number from two on, as products
over all of them.
"""

import zlib
from typing import ClassVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.fusion import features, modalities, tensor
from mmjax.types import Array, DropRate, Size


class CompactBilinear(features.FeatureFusion):
  """MCB: a short sketch of the outer product, and a dense layer.

  Each vector's count sketch (each feature is added to one of `size` sums, with
  a random sign) is made, and the sketches are convolved, which gives the count
  sketch of their outer product (Fukui et al. 2016, algorithm 1).
  A signed square root and the length 1 follow. The random numbers are fixed by
  `seed` and the modality's name. An absent modality is left out.

  Attributes:
    size: length of the sketch; the paper has 16,000.
    seed: seed of the random sums and signs.
  """

  minimum: ClassVar[int] = 2

  size: Size = 1024
  seed: int = 0

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    spectra = jnp.stack(
      [
        jnp.fft.rfft(self.sketch(name, vector), axis=-1)
        for name, vector in pooled.items()
      ],
      axis=1,
    )  # [B, m, size // 2 + 1]
    spectrum = features.multiply(spectra, present)
    x = jnp.fft.irfft(spectrum, n=self.size, axis=-1)
    x = ops.unit_norm(tensor.take_signed_root(x)).astype(self.dtype)
    return modalities.make_projection(self.width, self.dtype, 'output')(x)

  def sketch(self, name: str, x: Array) -> Array:
    """The count sketch [B, size] of a modality's vectors [B, D_m]."""
    rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
    index = rng.integers(self.size, size=x.shape[-1])
    sign = rng.choice(np.asarray([-1.0, 1.0], np.float32), size=x.shape[-1])
    signed = x.astype(jnp.float32) * jnp.asarray(sign)[None]
    return jax.ops.segment_sum(signed.T, index, self.size).T


class FactorizedBilinear(features.FeatureFusion):
  """MFB: sums of `factors` products of projections.

  Each modality is projected to D * k features; their products are dropped out,
  summed over k, and normalised by a signed square root and to length 1 (Yu et
  al. 2017, section 3). An absent modality is a factor of
  1.

  Attributes:
    factors: number of products k in each sum.
    dropout: rate on the products.
  """

  minimum: ClassVar[int] = 2

  factors: Size = 5
  dropout: DropRate = 0.0

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]; ConfigError if the order doesn't divide D."""
    size, rest = divmod(self.width, self.get_order())
    if rest:
      raise ConfigError(
        f'width {self.width} is not divisible by order {self.get_order()}; '
        'use a multiple'
      )
    product, parts = jnp.ones((), self.dtype), []
    for i in range(self.get_order()):
      x = self.project(pooled, size * self.factors, f'factor_{i}')
      product = product * features.multiply(x, present)  # [B, size * k]
      product = nn.Dropout(self.dropout)(product, deterministic=not train)
      summed = einops.reduce(product, 'b (d k) -> b d', 'sum', k=self.factors)
      parts.append(ops.unit_norm(tensor.take_signed_root(summed)))
    return jnp.concatenate(parts, axis=-1).astype(self.dtype)

  def get_order(self) -> int:
    """Number of blocks whose results are joined."""
    return 1


class FactorizedHighOrder(FactorizedBilinear):
  """MFH: `order` blocks of MFB, each multiplied with those before it.

  Their results, of width D / order each, are joined (Yu et al. 2018, section
  III).

  Attributes:
    order: number of blocks p, which divides D.
  """

  order: Size = 2

  def get_order(self) -> int:
    """Number of blocks whose results are joined."""
    return self.order
