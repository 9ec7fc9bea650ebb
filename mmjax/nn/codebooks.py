"""Codebooks: from the feature maps of an autoencoder to tokens and back.

All have `channels`, of the values that are decoded; `inputs`, the channels that
they read; `size`, the number of codes V; and `depth`, the number of ids of a
cell, along a last axis of the ids, or None for one id without such an axis.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.nn import vector_quantizers
from mmjax.types import Array, FieldInfo, Size


class FiniteScalar(nn.Module):
  """Each channel rounded to one of a few levels (Mentzer et al. 2024).

  Section 3.1, without parameters or a loss of its own. 0 maps to 0 exactly for
  an even number of levels too.

  Attributes:
    levels: number of levels of each channel, at least 2; V is their product.
    dtype: dtype of the values.
  """

  levels: Sequence[int] = (8, 5, 5, 5)
  dtype: Any = jnp.float32
  depth = None

  @property
  def channels(self) -> int:
    """Number of channels of the values."""
    return len(self.levels)

  @property
  def inputs(self) -> int:
    """Number of channels that it reads."""
    return len(self.levels)

  @property
  def size(self) -> int:
    """Number of codes V."""
    return math.prod(self.levels)

  def setup(self):
    if not self.levels or min(self.levels) < 2:
      raise ConfigError(
        f'codebook.levels={tuple(self.levels)}: each channel needs at least 2'
      )

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> vector_quantizers.Codes:
    """Quantizes a feature map, as `VectorQuantizer` does."""
    del mask, rng
    x = inputs.astype(jnp.float32)
    levels = vector_quantizers.along_last(
      jnp.asarray(self.levels, jnp.float32), x.ndim
    )
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
    bounded = jnp.tanh(x + jnp.arctanh(offset / half)) * half - offset
    rounded = jnp.round(bounded)
    places = rounded.astype(jnp.int32) + self._halves(x.ndim)
    ids = (places * self._basis(x.ndim)).sum(axis=-1)
    values = vector_quantizers.straight_through(
      bounded, rounded
    ) / self._halves(x.ndim)
    return vector_quantizers.Codes(
      values.astype(self.dtype), ids, jnp.zeros(len(x)), {}
    )

  def find(self, inputs: Array) -> Array:
    """Ids [B, h, w] of inputs [B, h, w, C]."""
    return self(inputs, None).ids

  def lookup(self, ids: Array) -> Array:
    """Values [..., C] in -1..1 of ids [...]."""
    rank = ids.ndim + 1
    levels = vector_quantizers.along_last(jnp.asarray(self.levels), rank)
    places = ids[..., None] // self._basis(rank) % levels
    return (places - self._halves(rank)) / self._halves(rank)

  def _halves(self, rank: int) -> Array:
    return vector_quantizers.along_last(jnp.asarray(self.levels) // 2, rank)

  def _basis(self, rank: int) -> Array:
    """What each channel's level counts in an id, the first one least."""
    steps = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
    return vector_quantizers.along_last(jnp.asarray(steps), rank)


class LookupFree(nn.Module):
  """The signs of channels as bits (Yu et al. 2024, MAGVIT-v2, section 3.1).

  The loss is the commitment, and the mean entropy of a cell's code less the
  entropy of the mean code (equation 5), both of bits that are taken to be
  independent (Zhao et al. 2024, equation 9). The latter is of the examples that
  one device or micro-batch has.

  Attributes:
    channels: number of bits C; V is 2^C.
    commitment: weight of the distance from inputs to their signs.
    entropy: weight of the entropies.
    sharpness: factor of inputs in the logits of bits.
    dtype: dtype of the values.
  """

  channels: Size = 10
  commitment: vector_quantizers.Weight = 0.25
  entropy: vector_quantizers.Weight = 0.1
  sharpness: Annotated[float, FieldInfo(above=0, training_only=True)] = 4.0
  dtype: Any = jnp.float32
  depth = None

  @property
  def inputs(self) -> int:
    """Number of channels that it reads."""
    return self.channels

  @property
  def size(self) -> int:
    """Number of codes V."""
    return 2**self.channels

  def setup(self):
    if self.channels > 18:
      raise ConfigError(
        f'codebook.channels={self.channels} bits are {self.size} codes; use at '
        'most 18'
      )

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> vector_quantizers.Codes:
    """Quantizes a feature map, as `VectorQuantizer` does."""
    del rng
    x = inputs.astype(jnp.float32)
    signs = jnp.where(x > 0, 1.0, -1.0)
    loss = self.commitment * jnp.square(x - signs).mean(axis=(1, 2, 3))
    logits = self.sharpness * x
    own = _bit_entropy(jax.nn.sigmoid(logits)).sum(axis=-1)  # [B, h, w]
    kept = mask[:, None, None, None]
    number = jnp.maximum(mask.sum(), 1) * x.shape[1] * x.shape[2]
    mean = jnp.where(kept, jax.nn.sigmoid(logits), 0).sum(axis=(0, 1, 2))
    whole = _bit_entropy(mean / number).sum()
    loss += self.entropy * (own.mean(axis=(1, 2)) - whole)
    values = vector_quantizers.straight_through(x, signs).astype(self.dtype)
    return vector_quantizers.Codes(values, self.find(x), loss, {})

  def find(self, inputs: Array) -> Array:
    """Ids [B, h, w] of inputs [B, h, w, C]; the first channel counts least."""
    bits = (inputs > 0).astype(jnp.int32)
    places = vector_quantizers.along_last(jnp.arange(self.channels), bits.ndim)
    return (bits << places).sum(axis=-1)

  def lookup(self, ids: Array) -> Array:
    """Values [..., C], -1 or 1, of ids [...]."""
    places = vector_quantizers.along_last(
      jnp.arange(self.channels), ids.ndim + 1
    )
    bits = (ids[..., None] >> places) & 1
    return 2.0 * bits - 1.0


class Gaussian(nn.Module):
  """A normal distribution a cell; no tokens (Kingma and Welling 2014).

  The latents of latent diffusion: the mean, in training a sample.

  Attributes:
    channels: number of channels C.
    divergence: weight of the divergence from N(0, 1), a mean over the values of
      an example's map.
    dtype: dtype of the values.
  """

  channels: Size = 4
  divergence: vector_quantizers.Weight = 1e-3
  dtype: Any = jnp.float32
  size = 0
  depth = None

  @property
  def inputs(self) -> int:
    """Number of channels that it reads: means, then logs of variances."""
    return 2 * self.channels

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> vector_quantizers.Codes:
    """Draws from the distributions; their means without `rng`."""
    del mask
    mean, log_variance = jnp.split(inputs.astype(jnp.float32), 2, axis=-1)
    log_variance = jnp.clip(log_variance, -30.0, 20.0)
    terms = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
    values = mean
    if rng is not None:
      noise = jax.random.normal(rng, mean.shape)
      values = mean + jnp.exp(0.5 * log_variance) * noise
    loss = self.divergence * 0.5 * terms.mean(axis=(1, 2, 3))
    return vector_quantizers.Codes(values.astype(self.dtype), None, loss, {})


def _bit_entropy(probability: Array) -> Array:
  """Entropy of bits in nats, also where they are certain."""
  p = jnp.clip(probability, 1e-6, 1 - 1e-6)
  return -(p * jnp.log(p) + (1 - p) * jnp.log(1 - p))


CODEBOOKS = {
  'vq': vector_quantizers.VectorQuantizer,
  'rvq': vector_quantizers.ResidualQuantizer,
  'fsq': FiniteScalar,
  'lfq': LookupFree,
  'gaussian': Gaussian,
}
