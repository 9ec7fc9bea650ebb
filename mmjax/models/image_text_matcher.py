"""Two towers in one space, and a classifier of pairs."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import encoders
from mmjax import nn as mnn
from mmjax.models import dual_encoder
from mmjax.types import Array, Batch, Outputs, Size


class ImageTextMatcher(nn.Module):
  """Embeds images and texts, and classifies whether a pair belongs together.

  The understanding half of BLIP (Li et al. 2022, section 3.2): one text encoder
  embeds texts alone, and matches them with cross-attention to the image and a
  linear layer on the pooled vector.

  Attributes:
    image: an image encoder.
    text: a text encoder with cross-attention.
    embed_dim: number of features of the embeddings E.
    dtype: dtype of the projections and the classifier.
  """

  image: nn.Module
  text: nn.Module
  embed_dim: Size
  dtype: Any = jnp.float32

  def setup(self):
    self.image_projection = dual_encoder.Projection(
      self.embed_dim, 'affine', self.dtype
    )
    self.text_projection = dual_encoder.Projection(
      self.embed_dim, 'affine', self.dtype
    )
    self.matcher = mnn.Dense(
      2,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ('embed', None)
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      dtype=self.dtype,
    )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Embeds and matches a batch's `image` and `text`, pair by pair.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      `image_embedding` and `text_embedding` [B, E], unit vectors;
      `match_logits` [B, 2] float32, of not belonging together and of doing so.
    """
    image = self.image(*encoders.get_array_and_mask(batch), train=train)
    text, mask = batch['text'], batch.get('text_mask')
    together = self.text(text, mask, image, train=train)
    return {
      'image_embedding': self.image_projection(image.pooled),
      'text_embedding': self.encode_text(text, mask, train=train),
      'match_logits': self.matcher(together.pooled).astype(jnp.float32),
    }

  def encode_image(
    self, images: Array, mask: Array | None = None, *, train: bool = False
  ) -> Array:
    """Embeds images [B, H, W, C] as unit vectors [B, E]."""
    tokens = self.image(images, mask, train=train)
    return self.image_projection(tokens.pooled)

  def encode_text(
    self, tokens: Array, mask: Array | None = None, *, train: bool = False
  ) -> Array:
    """Embeds token ids [B, T] as unit vectors [B, E]."""
    encoded = self.text(tokens, mask, train=train)
    return self.text_projection(encoded.pooled)

  def match(self, batch: Batch) -> Array:
    """Logits [B, 2] of a batch's pairs, see `__call__`."""
    image = self.image(*encoders.get_array_and_mask(batch), train=False)
    together = self.text(
      batch['text'], batch.get('text_mask'), image, train=False
    )
    return self.matcher(together.pooled).astype(jnp.float32)
