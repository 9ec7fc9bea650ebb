"""Codebooks of learned vectors, of maps [B, h, w, C] or sequences [B, T, C]."""

import math
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import check_choice
from mmjax.types import Array, FieldInfo, Size

Weight = Annotated[float, FieldInfo(minimum=0, training_only=True)]
Decay = Annotated[float, FieldInfo(minimum=0, below=1, training_only=True)]
_UPDATES = ('ema', 'gradient')


class Codes(NamedTuple):
  """A feature map as codes.

  Attributes:
    values: [B, h, w, C] what is decoded; the gradient goes straight through.
    ids: [B, h, w] int32, or [B, h, w, K] of a codebook whose `depth` is K; None
      where values are not of a finite set.
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
  depth = None

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
    products = jnp.einsum('...c,vc->...v', x, vectors)
    squares = along_last(jnp.square(vectors).sum(axis=-1), x.ndim)
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
    axes = tuple(range(1, x.ndim))
    distance = lambda a, b: jnp.square(a - b).mean(axis=axes)
    loss = self.commitment * distance(x, jax.lax.stop_gradient(nearest))
    if self.update == 'gradient':
      loss += distance(jax.lax.stop_gradient(x), nearest)
    values = straight_through(x, self.lookup(ids))
    moves = {}
    if rng is not None and self.update == 'ema':
      moves = self._move(jax.lax.stop_gradient(x), ids, mask, rng)
    return Codes(values.astype(self.dtype), ids, loss, moves)

  def _move(
    self, x: Array, ids: Array, mask: Array, rng: Array
  ) -> dict[str, Array]:
    cells = math.prod(ids.shape[1:])
    ids, x = ids.reshape(len(x), cells), x.reshape(len(x), cells, -1)
    one_hot = jax.nn.one_hot(ids, self.size) * mask[:, None, None]
    number = jnp.maximum(mask.sum(), 1) * cells
    counts = one_hot.sum(axis=(0, 1)) / number
    sums = jnp.einsum('bnv,bnc->vc', one_hot, x) / number
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


class ResidualQuantizer(nn.Module):
  """Vectors that add up, each the nearest of what those before it leave.

  Residual vector quantization (Zeghidour et al. 2021, SoundStream, algorithm 1)
  by K codebooks of V vectors, each a `VectorQuantizer`. The loss is the sum of
  theirs. All K are trained on every example; published models leave out the
  last ones of random examples, so that the first ones are good alone.

  Attributes:
    size: number of vectors V of a codebook.
    channels: number of channels C.
    depth: number of codebooks K.
    update: 'ema' or 'gradient', as in `VectorQuantizer`.
    decay: decay, as there.
    commitment: commitment, as there.
    revive: revive, as there.
    dtype: dtype of the values.
  """

  size: Size
  channels: Size
  depth: Size = 8
  update: str = 'ema'
  decay: Decay = 0.99
  commitment: Weight = 0.25
  revive: Weight = 0.1
  dtype: Any = jnp.float32

  @property
  def inputs(self) -> int:
    """Number of channels that it reads."""
    return self.channels

  def setup(self):
    self.layers = [
      VectorQuantizer(
        self.size,
        self.channels,
        self.update,
        self.decay,
        self.commitment,
        self.revive,
      )
      for _ in range(self.depth)
    ]

  def find(self, inputs: Array, number: int | None = None) -> Array:
    """Ids [B, h, w, K] of inputs [B, h, w, C].

    Args:
      inputs: what is quantized.
      number: number of codebooks to use, the first ones; None for all.
    """
    left, ids = inputs.astype(jnp.float32), []
    for layer in self.layers[:number]:
      ids.append(layer.find(left))
      left = left - layer.lookup(ids[-1])
    return jnp.stack(ids, axis=-1)

  def lookup(self, ids: Array) -> Array:
    """Sums [..., C] of the vectors of ids [..., K], of the first codebooks.

    Raises:
      ValueError: for ids of more codebooks than there are.
    """
    number = ids.shape[-1]
    if number > self.depth:
      raise ValueError(
        f'ids {list(ids.shape)} are of {number} codebooks, but there are '
        f'{self.depth}; leave out the last ones'
      )
    return sum(self.layers[i].lookup(ids[..., i]) for i in range(number))

  def __call__(
    self, inputs: Array, mask: Array, rng: Array | None = None
  ) -> Codes:
    """Quantizes a feature map, as `VectorQuantizer` does."""
    x = left = inputs.astype(jnp.float32)
    loss, ids, moves = jnp.zeros(len(x)), [], {}
    for i, layer in enumerate(self.layers):
      key = None if rng is None else jax.random.fold_in(rng, i)
      codes = layer(left, mask, key)
      left = left - jax.lax.stop_gradient(layer.lookup(codes.ids))
      loss, moves = loss + codes.loss, moves | codes.moves
      ids.append(codes.ids)
    values = straight_through(x, x - left)
    return Codes(
      values.astype(self.dtype), jnp.stack(ids, axis=-1), loss, moves
    )


def straight_through(x: Array, quantized: Array) -> Array:
  """`quantized`, with the gradient of x (Bengio et al. 2013)."""
  return x + jax.lax.stop_gradient(quantized - x)


def along_last(x: Array, rank: int) -> Array:
  """A vector as an array of a rank, along its last axis."""
  return x.reshape((1,) * (rank - 1) + (-1,))
