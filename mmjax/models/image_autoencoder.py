"""Autoencoders of images, with tokens or latents between their halves."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.nn import image_codec
from mmjax.objectives import presence
from mmjax.types import Array, Batch, FieldInfo, Outputs, Positive, Size


class Reconstructed(NamedTuple):
  """Images or sounds as an autoencoder gives them back.

  Attributes:
    values: images [B, H, W, C], or samples [B, N], float32.
    codes: what they were decoded from.
  """

  values: Array
  codes: mnn.Codes


class ImageAutoencoder(nn.Module):
  """Maps images to a small map of tokens or latents, and back.

  VQGAN (Esser et al. 2021) with a codebook of tokens, the autoencoder of latent
  diffusion (Rombach et al. 2022) with codebook 'gaussian'.

  Attributes:
    width: channels of the largest map, before its multiplier.
    codebook: what maps turn into, `mmjax.nn.CODEBOOKS`.
    multipliers: factor of the width at each level, the largest map first; each
      level after the first halves the resolution.
    num_blocks: residual blocks a level; the decoder has one more.
    patch_size: side of the squares of pixels that are read as one; 1 as
      published.
    latent_channels: channels between the halves and the maps to and from the
      codebook; 0 for the codebook's.
    channels: channels C of images.
    attention_levels: levels with attention after each block.
    middle_attention: whether the smallest map gets attention.
    groups: number of groups of a normalisation.
    projected: whether a linear map leads to the codebook, and one from it.
    latent_scale: factor of the latents that `encode_latents` gives.
    latent_shift: what is subtracted from them before.
    discriminator: what judges images against reconstructions, for an
      adversarial loss; None for none.
    feature: name of the image.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  codebook: nn.Module
  multipliers: Sequence[int] = (1, 2, 4)
  num_blocks: Size = 2
  patch_size: Size = 1
  latent_channels: int = 0
  channels: Size = 3
  attention_levels: Sequence[int] = ()
  middle_attention: bool = True
  groups: Size = 32
  projected: bool = True
  latent_scale: Positive = 1.0
  latent_shift: float = 0.0
  discriminator: Annotated[nn.Module | None, FieldInfo(training_only=True)] = (
    None
  )
  feature: str = 'image'
  dtype: Any = jnp.float32

  def setup(self):
    codes, between = self.codebook, self._latent_channels
    settings = {
      'width': self.width,
      'multipliers': tuple(self.multipliers),
      'num_blocks': self.num_blocks,
      'patch_size': self.patch_size,
      'attention_levels': tuple(self.attention_levels),
      'middle_attention': self.middle_attention,
      'groups': self.groups,
      'dtype': self.dtype,
    }
    # As many for the logs of variances, of a codebook that reads them.
    factor = codes.inputs // codes.channels
    self.encoder = mnn.LatentEncoder(out_channels=factor * between, **settings)
    self.decoder = mnn.LatentDecoder(channels=self.channels, **settings)
    if self.projected:
      self.to_codes = image_codec.project(codes.inputs, self.dtype, None)
      self.from_codes = image_codec.project(between, self.dtype, None)
    elif between != codes.channels:
      raise ConfigError(
        f'latent_channels={between} differs from the {codes.channels} channels '
        'of the codebook; set projected=True'
      )

  @property
  def _latent_channels(self) -> int:
    return self.latent_channels or self.codebook.channels

  @property
  def factor(self) -> int:
    """Side in pixels of the square that a token stands for."""
    return self.patch_size * 2 ** (len(self.multipliers) - 1)

  @property
  def smallest_shape(self) -> tuple[int, ...]:
    """Shape of a batch of images that makes all parameters."""
    return 1, 2 * self.factor, 2 * self.factor, self.channels

  def grid(self, shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the tokens of images of a shape (H, W, ...).

    Raises:
      ConfigError: if a side is not divisible by `factor`.
    """
    for side in shape[:2]:
      if side % self.factor:
        below = max(side // self.factor, 1) * self.factor
        raise ConfigError(
          f'image size {side} is not divisible by the {self.factor} pixels of '
          f'a token; use {below}, or another patch_size or number of '
          'multipliers'
        )
    return shape[0] // self.factor, shape[1] // self.factor

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; objectives call `reconstruct`, `discriminate`.

    Args:
      batch: images [B, H, W, C].
      train: unused.
    """
    if self.is_initializing():
      self.reconstruct(batch, train=train)
      if self.discriminator is not None:
        self.discriminator(batch[self.feature])
    return {}

  def reconstruct(
    self, batch: Batch, rng: Array | None = None, *, train: bool = False
  ) -> Reconstructed:
    """Encodes and decodes images.

    Args:
      batch: images [B, H, W, C] with their mask.
      rng: key of latents' samples and of new vectors of a codebook; None
        outside of training.
      train: unused, as there is no dropout.
    """
    del train
    mask = presence.presence_mask(batch, self.feature)
    codes = self.codebook(self.encode(batch[self.feature]), mask, rng)
    return Reconstructed(self.decode(codes.values), codes)

  def discriminate(self, images: Array, *, frozen: bool) -> Array:
    """Logits [B, h, w] of images [B, H, W, C], high where they look real.

    Args:
      images: real images, or reconstructions.
      frozen: whether the discriminator's parameters get no gradient.
    """
    if not frozen:
      return self.discriminator(images)
    module, variables = self.discriminator.unbind()
    return module.apply(jax.lax.stop_gradient(variables), images)

  def encode(self, images: Array) -> Array:
    """Maps images [B, H, W, C] to what the codebook reads [B, h, w, D]."""
    self.grid(images.shape[1:])
    x = self.encoder(images)
    return self.to_codes(x) if self.projected else x

  def decode(self, values: Array) -> Array:
    """Maps values of the codebook [B, h, w, C] to images [B, H, W, C]."""
    values = values.astype(self.dtype)
    x = self.from_codes(values) if self.projected else values
    return self.decoder(x)

  def encode_tokens(self, images: Array) -> Array:
    """Token ids [B, h, w] int32 of images [B, H, W, C]; of 'rvq' [B, h, w, K].

    Raises:
      ConfigError: for a codebook without tokens.
    """
    self._check_tokens(True)
    return self.codebook.find(self.encode(images))

  def decode_tokens(self, ids: Array) -> Array:
    """Images [B, H, W, C] of token ids [B, h, w], or [B, h, w, K].

    Raises:
      ConfigError: for a codebook without tokens.
    """
    self._check_tokens(True)
    return self.decode(self.codebook.lookup(ids))

  def encode_latents(self, images: Array) -> Array:
    """Latents [B, h, w, C] float32 of images, for a diffusion model.

    The mean of each, shifted and scaled by `latent_shift` and `latent_scale`.

    Raises:
      ConfigError: for a codebook with tokens.
    """
    self._check_tokens(False)
    mask = jnp.ones(len(images), bool)
    mean = self.codebook(self.encode(images), mask).values
    return (mean.astype(jnp.float32) - self.latent_shift) * self.latent_scale

  def decode_latents(self, latents: Array) -> Array:
    """Images [B, H, W, C] of what `encode_latents` gives.

    Raises:
      ConfigError: for a codebook with tokens.
    """
    self._check_tokens(False)
    return self.decode(latents / self.latent_scale + self.latent_shift)

  def check_discriminator(self, wanted: bool) -> None:
    """Refuses a loss without a discriminator, or one that no loss trains.

    Args:
      wanted: whether there is an adversarial loss.

    Raises:
      ConfigError: naming both settings.
    """
    if wanted and self.discriminator is None:
      raise ConfigError(
        'tasks.reconstruct.adversarial needs a discriminator; set '
        "model.discriminator, as in dict(name='patch', width=64), or "
        'adversarial=0'
      )
    if not wanted and self.discriminator is not None:
      raise ConfigError(
        'the autoencoder has a discriminator, which only '
        'tasks.reconstruct.adversarial trains; set this, as in adversarial=0.1 '
        'of a model that reconstructs, or leave out discriminator'
      )

  def check_single_tokens(self) -> None:
    """Refuses what models that write one token a cell can't use.

    Raises:
      ConfigError: naming the number of ids a cell, or the discriminator.
    """
    self.check_discriminator(False)
    if self.codebook.depth is not None:
      raise ConfigError(
        f'the codebook of the autoencoder gives {self.codebook.depth} ids a '
        "cell; the model writes one: use one whose name is 'vq', 'fsq' or 'lfq'"
      )

  def _check_tokens(self, wanted: bool) -> None:
    kind = type(self.codebook).__name__
    if wanted and not self.codebook.size:
      raise ConfigError(
        f'the codebook {kind} has no tokens; use encode_latents and '
        "decode_latents, or train with codebook.name 'vq', 'fsq' or 'lfq'"
      )
    if not wanted and self.codebook.size:
      raise ConfigError(
        f'the codebook {kind} has tokens; use encode_tokens and decode_tokens, '
        "or train with codebook.name 'gaussian'"
      )
