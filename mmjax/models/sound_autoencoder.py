"""Autoencoders of sounds, with tokens between their halves."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, Batch, Outputs


class SoundAutoencoder(nn.Module):
  """Maps the samples of sounds to tokens, several a time step, and back.

  EnCodec (Défossez et al. 2022), with a codebook 'rvq': the more of its
  codebooks are used, the closer is what is decoded.

  Attributes:
    layout: layers of both halves.
    codebook: what vectors turn into, `mmjax.nn.CODEBOOKS`, with `depth`.
    feature: name of the sound.
    dtype: dtype of the computation; parameters are float32.
  """

  layout: mnn.SoundLayout
  codebook: nn.Module
  feature: str = 'sound'
  dtype: Any = jnp.float32

  def setup(self):
    channels = self.codebook.channels
    self.encoder = mnn.SoundEncoder(self.layout, channels, self.dtype)
    self.decoder = mnn.SoundDecoder(self.layout, self.dtype)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; there is nothing else to do for all tasks.

    Args:
      batch: samples [B, N] in -1..1.
      train: unused.
    """
    del train
    if self.is_initializing():
      self.decode_tokens(self.encode_tokens(batch[self.feature]))
    return {}

  def encode(self, samples: Array) -> Array:
    """Maps samples [B, N] to what the codebook reads [B, T, C].

    T is N / hop, rounded up.
    """
    return self.encoder(samples)

  def decode(self, values: Array) -> Array:
    """Maps values of the codebook [B, T, C] to samples [B, T * hop] float32."""
    return self.decoder(values)

  def encode_tokens(self, samples: Array, number: int | None = None) -> Array:
    """Token ids [B, K, T] int32 of samples [B, N].

    Args:
      samples: samples in -1..1.
      number: number of codebooks K, the first ones; None for all.
    """
    ids = self.codebook.find(self.encode(samples), number)  # [B, T, K]
    return jnp.moveaxis(ids, -1, 1)

  def decode_tokens(self, ids: Array) -> Array:
    """Samples [B, T * hop] float32 of ids [B, K, T], of the first codebooks."""
    return self.decode(self.codebook.lookup(jnp.moveaxis(ids, 1, -1)))
