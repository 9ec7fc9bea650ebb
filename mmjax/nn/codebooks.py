"""Codebooks: from the feature maps of an autoencoder to tokens and back.

All have `channels`, of the values that are decoded; `inputs`, the channels that
they read; and `size`, the number of codes V.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array, FieldInfo, Size

Weight = Annotated[float, FieldInfo(minimum=0, training_only=True)]
Decay = Annotated[float, FieldInfo(minimum=0, below=1, training_only=True)]
_UPDATES = ('ema', 'gradient')


class Codes(NamedTuple):
  """A feature map as codes.

  Attributes:
    values: [B, h, w, C] what is decoded; the gradient goes straight through.
    ids: [B, h, w] int32; None where values are not of a finite set.
    loss: [B] float32, the codebook's own loss, times its weight.
    moves: by path of a parameter, what training adds to it beside gradients,
      a mean over the examples.
  """

  values: Array
  ids: Array | None
  loss: Array
  moves: dict[str, Array]


class VectorQuantizer(nn.Module):
  """The nearest of V learned vectors (van den Oord et al. 2017).

  With update='ema' the vectors are moving averages of what is mapped to them
  (appendix A.1): `sums` / `counts`, of which `counts` are frequencies. A vector
  whose frequency is below `revive` / V becomes a random input, as all of them
  do at the first step. Over devices or micro-batches it becomes their mean.
  With 'gradient' the loss draws the vectors to what is mapped to them.

  Attributes:
    size: number of vectors V.
    channels: number of channels C.
    update: 'ema' or 'gradient'.
    decay: decay of the moving averages.
    commitment: weight of the distance from inputs to their vectors.
    revive: fraction of a uniform frequency below which a vector is replaced; 0
      for never, but for the first step.
    unit_lookup: whether `lookup` gives vectors of length 1 (Janus), though the
      nearest is searched with their own length.
    dtype: dtype of the values.
  """

  size: Size
  channels: Size
  update: str = 'ema'
  decay: Decay = 0.99
  commitment: Weight = 0.25
  revive: Weight = 0.1
  unit_lookup: bool = False
  dtype: Any = jnp.float32

  @property
  def inputs(self) -> int:
    """Number of channels that it reads."""
    return self.channels

  def setup(self):
    check_choice(self.update, _UPDATES, 'codebook.update')
    table = (self.size, self.channels)
    named = lambda init: nn.with_logical_partitioning(init, (None, None))
    if self.update == 'gradient':
      init = nn.initializers.uniform(2 / self.size)
      self.embedding = self.param(
        'embedding', named(lambda *a: init(*a) - 1 / self.size), table
      )
    else:
      counts = nn.with_logical_partitioning(nn.initializers.zeros, (None,))
      self.counts = self.param('counts', counts, (self.size,))
      self.sums = self.param('sums', named(nn.initializers.normal(1.0)), table)

  def vectors(self) -> Array:
    """The vectors [V, C] float32; those of the first step are random."""
    if self.update == 'gradient':
      return self.embedding
    counts = jax.lax.stop_gradient(self.counts)[:, None]
    sums = jax.lax.stop_gradient(self.sums)
    return jnp.where(counts > 0, sums / jnp.maximum(counts, 1e-9), sums)

  def find(self, inputs: Array) -> Array:
    """Ids [B, h, w] of the nearest vectors of inputs [B, h, w, C]."""
    vectors, x = self.vectors(), inputs.astype(jnp.float32)
    products = jnp.einsum('bhwc,vc->bhwv', x, vectors)
    squares = _along_last(jnp.square(vectors).sum(axis=-1), 4)
    return jnp.argmin(squares - 2 * products, axis=-1).astype(jnp.int32)

  def lookup(self, ids: Array) -> Array:
    """Vectors [..., C] of ids [...], to be decoded."""
    found = self.vectors()[ids]
    return ops.unit_norm(found) if self.unit_lookup else found

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> Codes:
    """Quantizes a feature map.

    Args:
      inputs: [B, h, w, C].
      mask: [B], False for examples that train nothing.
      rng: key of the inputs that replace vectors; None outside of training.
    """
    x = inputs.astype(jnp.float32)
    ids = self.find(jax.lax.stop_gradient(x))
    nearest = self.vectors()[ids]
    distance = lambda a, b: jnp.square(a - b).mean(axis=(1, 2, 3))
    loss = self.commitment * distance(x, jax.lax.stop_gradient(nearest))
    if self.update == 'gradient':
      loss += distance(jax.lax.stop_gradient(x), nearest)
    values = _straight_through(x, self.lookup(ids))
    moves = {}
    if rng is not None and self.update == 'ema':
      moves = self._move(jax.lax.stop_gradient(x), ids, mask, rng)
    return Codes(values.astype(self.dtype), ids, loss, moves)

  def _move(
    self, x: Array, ids: Array, mask: Array, rng: Array
  ) -> dict[str, Array]:
    cells = ids.shape[1] * ids.shape[2]
    one_hot = jax.nn.one_hot(ids, self.size) * mask[:, None, None, None]
    number = jnp.maximum(mask.sum(), 1) * cells
    counts = one_hot.sum(axis=(0, 1, 2)) / number
    sums = jnp.einsum('bhwv,bhwc->vc', one_hot, x) / number
    rate = 1 - self.decay
    flat = ops.zero_masked(x, mask).reshape(-1, self.channels)
    logits = jnp.where(jnp.repeat(mask, cells), 0.0, -1e9)
    chosen = jax.random.categorical(rng, logits, shape=(self.size,))
    uniform = 1 / self.size
    # The first step has no frequencies, so all vectors are replaced.
    dead = (self.counts == 0) | (self.counts < self.revive * uniform)
    path = '/'.join(self.path)
    return {
      f'{path}/counts': jnp.where(
        dead, uniform - self.counts, rate * (counts - self.counts)
      ),
      f'{path}/sums': jnp.where(
        dead[:, None],
        uniform * flat[chosen] - self.sums,
        rate * (sums - self.sums),
      ),
    }


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
  ) -> Codes:
    """Quantizes a feature map; see `VectorQuantizer`."""
    del mask, rng
    x = inputs.astype(jnp.float32)
    levels = _along_last(jnp.asarray(self.levels, jnp.float32), x.ndim)
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = jnp.where(levels % 2 == 0, 0.5, 0.0)
    bounded = jnp.tanh(x + jnp.arctanh(offset / half)) * half - offset
    rounded = jnp.round(bounded)
    places = rounded.astype(jnp.int32) + self._halves(x.ndim)
    ids = (places * self._basis(x.ndim)).sum(axis=-1)
    values = _straight_through(bounded, rounded) / self._halves(x.ndim)
    return Codes(values.astype(self.dtype), ids, jnp.zeros(len(x)), {})

  def find(self, inputs: Array) -> Array:
    """Ids [B, h, w] of inputs [B, h, w, C]."""
    return self(inputs, None).ids

  def lookup(self, ids: Array) -> Array:
    """Values [..., C] in -1..1 of ids [...]."""
    rank = ids.ndim + 1
    levels = _along_last(jnp.asarray(self.levels), rank)
    places = ids[..., None] // self._basis(rank) % levels
    return (places - self._halves(rank)) / self._halves(rank)

  def _halves(self, rank: int) -> Array:
    return _along_last(jnp.asarray(self.levels) // 2, rank)

  def _basis(self, rank: int) -> Array:
    """What each channel's level counts in an id, the first one least."""
    steps = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
    return _along_last(jnp.asarray(steps), rank)


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
  commitment: Weight = 0.25
  entropy: Weight = 0.1
  sharpness: Annotated[float, FieldInfo(above=0, training_only=True)] = 4.0
  dtype: Any = jnp.float32

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
  ) -> Codes:
    """Quantizes a feature map; see `VectorQuantizer`."""
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
    values = _straight_through(x, signs).astype(self.dtype)
    return Codes(values, self.find(x), loss, {})

  def find(self, inputs: Array) -> Array:
    """Ids [B, h, w] of inputs [B, h, w, C]; the first channel counts least."""
    bits = (inputs > 0).astype(jnp.int32)
    places = _along_last(jnp.arange(self.channels), bits.ndim)
    return (bits << places).sum(axis=-1)

  def lookup(self, ids: Array) -> Array:
    """Values [..., C], -1 or 1, of ids [...]."""
    places = _along_last(jnp.arange(self.channels), ids.ndim + 1)
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
  divergence: Weight = 1e-3
  dtype: Any = jnp.float32
  size = 0

  @property
  def inputs(self) -> int:
    """Number of channels that it reads: means, then logs of variances."""
    return 2 * self.channels

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> Codes:
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
    return Codes(values.astype(self.dtype), None, loss, {})


def _straight_through(x: Array, quantized: Array) -> Array:
  """`quantized`, with the gradient of x (Bengio et al. 2013)."""
  return x + jax.lax.stop_gradient(quantized - x)


def _along_last(x: Array, rank: int) -> Array:
  """A vector as an array of a rank, along its last axis."""
  return x.reshape((1,) * (rank - 1) + (-1,))


def _bit_entropy(probability: Array) -> Array:
  """Entropy of bits in nats, also where they are certain."""
  p = jnp.clip(probability, 1e-6, 1 - 1e-6)
  return -(p * jnp.log(p) + (1 - p) * jnp.log(1 - p))


CODEBOOKS = {
  'vq': VectorQuantizer,
  'fsq': FiniteScalar,
  'lfq': LookupFree,
  'gaussian': Gaussian,
}
