"""Autoencoders of sounds, with tokens between their halves."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.models.image_autoencoder import Reconstructed
from mmjax.objectives import presence
from mmjax.types import Array, Batch, Outputs


class SoundAutoencoder(nn.Module):
  """Maps the samples of sounds to tokens, and back.

  EnCodec (Défossez et al. 2022), with a codebook 'rvq': K tokens a time step,
  and the more of its codebooks are used, the closer is what is decoded. With
  one of the others, K is 1.

  Attributes:
    layout: layers of both halves, settings of `mmjax.nn.SoundLayout`.
    codebook: what vectors turn into, of `mmjax.nn.CODEBOOKS` one with tokens.
    feature: name of the sound.
    dtype: dtype of the computation; parameters are float32.
  """

  layout: Mapping[str, Any]
  codebook: nn.Module
  feature: str = 'sound'
  dtype: Any = jnp.float32

  def setup(self):
    if not self.codebook.size:
      raise ConfigError(
        'sounds are encoded as tokens, of which this codebook has none; use '
        "one whose name is 'vq', 'rvq', 'fsq' or 'lfq'"
      )
    layout = mnn.SoundLayout(**self.layout)
    self.encoder = mnn.SoundEncoder(layout, self.codebook.inputs, self.dtype)
    self.decoder = mnn.SoundDecoder(layout, self.dtype)

  @property
  def smallest_shape(self) -> tuple[int, ...]:
    """Shape of a batch of samples that makes all parameters."""
    return 1, 2 * self._hop

  @property
  def _hop(self) -> int:
    """Number of samples of a token."""
    return mnn.SoundLayout(**self.layout).hop

  def grid(self, shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the tokens of sounds of a shape (S,): one row."""
    return 1, -(-shape[0] // self._hop)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; objectives call `reconstruct`.

    Args:
      batch: samples [B, N] in -1..1.
      train: unused.
    """
    del train
    if self.is_initializing():
      self.reconstruct(batch)
    return {}

  def reconstruct(
    self, batch: Batch, rng: Array | None = None, *, train: bool = False
  ) -> Reconstructed:
    """Encodes and decodes sounds.

    Args:
      batch: samples [B, N] with their mask.
      rng: key of new vectors of a codebook; None outside of training.
      train: unused, as there is no dropout.
    """
    del train
    samples = batch[self.feature]
    mask = presence.presence_mask(batch, self.feature)
    # A codebook reads maps; this one has a single row.
    codes = self.codebook(self.encode(samples)[:, None], mask, rng)
    decoded = self.decode(codes.values[:, 0])
    return Reconstructed(decoded[:, : samples.shape[1]], codes)

  def encode(self, samples: Array) -> Array:
    """Maps samples [B, N] to what the codebook reads [B, T, C].

    T is N / hop, rounded up.
    """
    return self.encoder(samples)

  def decode(self, values: Array) -> Array:
    """Maps values of the codebook [B, T, C] to samples [B, T * hop] float32."""
    return self.decoder(values.astype(self.dtype))

  def encode_tokens(self, samples: Array, number: int | None = None) -> Array:
    """Token ids [B, K, T] int32 of samples [B, N].

    Args:
      samples: samples in -1..1.
      number: number of codebooks K of an 'rvq', the first ones; None for all.
    """
    vectors = self.encode(samples)
    if self.codebook.depth is None:
      return self.codebook.find(vectors)[:, None]
    return jnp.moveaxis(self.codebook.find(vectors, number), -1, 1)

  def check_tokens(self, ids: Any) -> np.ndarray:
    """Token ids as int32 [B, K, T], outside of any program.

    Raises:
      ConfigError: for an array of another shape, more codebooks than there are,
        or an id that is not one of a codebook's.
    """
    ids, size, most = np.asarray(ids), self.codebook.size, self.codebook.depth
    most = most or 1
    whole = np.issubdtype(ids.dtype, np.integer)
    if not whole or ids.ndim != 3 or not 0 < ids.shape[1] <= most:
      raise ConfigError(
        f'ids are whole numbers [sounds, codebooks, steps], of 1 to {most} '
        f'codebooks, not {ids.dtype} {list(ids.shape)}'
      )
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.size:
      raise ConfigError(
        f'the id {wrong[0]} is not one of the {size} of a codebook, from 0'
      )
    return ids.astype(np.int32)

  def check_single_tokens(self) -> None:
    """Refuses what models that write one token a time step can't use.

    Raises:
      ConfigError: naming the number of ids a step.
    """
    if self.codebook.depth is not None:
      raise ConfigError(
        f'the codebook of the autoencoder gives {self.codebook.depth} ids a '
        "step; the model writes one: use one whose name is 'vq', 'fsq' or 'lfq'"
      )

  def decode_tokens(self, ids: Array) -> Array:
    """Samples [B, T * hop] float32 of ids [B, K, T], of the first codebooks."""
    if self.codebook.depth is None:
      return self.decode(self.codebook.lookup(ids[:, 0]))
    return self.decode(self.codebook.lookup(jnp.moveaxis(ids, 1, -1)))
