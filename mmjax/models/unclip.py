"""DALL-E 2: a text, the embedding of its image, and that image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, Outputs


class Unclip(nn.Module):
  """Draws images of texts by way of the images' embeddings.

  DALL-E 2 (Ramesh et al. 2022, there unCLIP). Two towers in one space embed
  images and texts; the prior makes an image's embedding of a text's; the
  generator draws an image of its embedding. The towers get no gradient. The
  stages are trained one after the other, or the last two at once.

  Attributes:
    towers: a trained `DualEncoder`.
    prior: model from a text to an image's embedding; None in a model without.
    generator: a `DiT` with embedding_feature='image_embedding'; None in a model
      without.
  """

  towers: nn.Module
  prior: nn.Module | None = None
  generator: nn.Module | None = None

  def setup(self):
    width = self.towers.embed_dim
    if self.prior is not None and self.prior.embed_dim != width:
      raise ConfigError(
        f'model.prior.embed_dim={self.prior.embed_dim}, but the towers embed '
        f'in {width} numbers; use that'
      )
    read = getattr(self.generator, 'embedding_feature', 'image_embedding')
    if read != 'image_embedding':
      raise ConfigError(
        f'model.generator.embedding_feature={read!r}, but what it draws of is '
        "called 'image_embedding'; use that"
      )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Embeds a batch's `image`.

    Args:
      batch: `image` [B, H, W, C] and `text` [B, T] with their masks.
      train: whether dropout is on, of the prior and the generator alone.

    Returns:
      With a prior, `image_embedding` [B, E], scaled as the prior reads it.
    """
    out = {}
    if self.is_initializing():
      self.towers(batch, train=False)
    if self.prior is not None:
      image = self.embed(batch, 'image')
      out['image_embedding'] = self.prior.normalise(image)
    if self.is_initializing():
      times = jnp.zeros(len(batch['image']))
      if self.prior is not None:
        self.denoise_embedding(out['image_embedding'], times, batch)
      if self.generator is not None:
        self.denoise(batch['image'], times, batch)
    return out

  def embed(self, batch: Batch, name: str) -> Array:
    """Unit vectors [B, E] of a batch's `image` or `text`."""
    return jax.lax.stop_gradient(self.towers.embed(batch, name))

  def denoise_embedding(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """What the prior predicts [B, E] about scaled noisy embeddings.

    Args:
      noisy: [B, E].
      times: [B], from 0, no noise, to 1.
      batch: `text` [B, T] with its mask.
      conditioned: [B], False where the text isn't used; None for all.
      train: whether dropout is on.
    """
    tokens = self.towers.text(
      batch['text'], batch.get('text_mask'), train=False
    )
    embedding = self.towers.text_projection(tokens.pooled)
    used = tokens.mask
    if conditioned is not None:
      used = used & conditioned[:, None]
    embedding = ops.zero_masked(embedding, used.any(axis=1))
    read = {
      'tokens': tokens.values,
      # Of unit length; the layers are made for numbers of about 1.
      'text_embedding': embedding * embedding.shape[-1] ** 0.5,
    }
    return self.prior(
      {
        **jax.lax.stop_gradient(read),
        'tokens_mask': used,
        'noisy': noisy,
        'times': times,
      },
      train=train,
    )

  def denormalise(self, scaled: Array) -> Array:
    """Unit vectors [B, E] of what the prior predicts."""
    return ops.unit_norm(self.prior.denormalise(scaled))

  def denoise(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """What the generator predicts [B, H, W, C] about noisy images.

    Args:
      noisy: [B, H, W, C].
      times: [B], from 0, no noise, to 1.
      batch: `image_embedding` [B, E], or the `image` to embed with its mask.
      conditioned: [B], False where the embedding isn't used; None for all.
      train: whether dropout is on.
    """
    if 'image_embedding' not in batch:
      read = {'image_embedding': self.embed(batch, 'image')}
      if 'image_mask' in batch:
        read['image_embedding_mask'] = batch['image_mask']
      batch = {**batch, **read}
    return self.generator.denoise(noisy, times, batch, conditioned, train=train)
