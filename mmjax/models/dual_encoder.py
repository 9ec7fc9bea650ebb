"""Two towers in one space."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import encoders, ops
from mmjax import nn as mnn
from mmjax.errors import ConfigError, choose
from mmjax.types import Array, Batch, Outputs, Positive, Size


class Projection(nn.Module):
  """A map to the shared space, then unit length.

  Attributes:
    embed_dim: number of features of the embeddings E.
    kind: 'linear', 'affine' (with a bias) or None, for a tower that is E wide.
    dtype: dtype of the matrix product; the result is float32.
  """

  embed_dim: Size
  kind: str | None = 'linear'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, pooled: Array) -> Array:
    """Maps [B, D] to unit vectors [B, E]."""
    if self.kind is None:
      if pooled.shape[-1] != self.embed_dim:
        raise ConfigError(
          f'a tower of width {pooled.shape[-1]} without a projection cannot '
          f"embed in embed_dim {self.embed_dim}; use 'linear', or make them "
          'equal'
        )
      return ops.unit_norm(pooled)
    if self.kind not in ('linear', 'affine'):
      raise ConfigError(
        f"projection {self.kind!r} is unknown; use 'linear', 'affine' or None"
      )
    x = mnn.Dense(
      self.embed_dim,
      use_bias=self.kind == 'affine',
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), ('embed', None)
      ),
      dtype=self.dtype,
      name='projection',
    )(pooled)
    return ops.unit_norm(x)


class Scale(nn.Module):
  """The learned temperature, and for the sigmoid loss the bias.

  Attributes:
    init: the scale at the start (an inverse temperature).
    maximum: upper limit of the scale (CLIP: 100).
    bias_init: the bias at the start; None for no bias.
    learns_temperature: whether the parameter is the temperature itself (ALIGN,
      Jia et al. 2021), instead of the logarithm of its inverse.
  """

  init: float = 1 / 0.07
  maximum: float = 100.0
  bias_init: float | None = None
  learns_temperature: bool = False

  @nn.compact
  def __call__(self) -> dict[str, Array]:
    """Returns `logit_scale` [], and `logit_bias` [] if there is one."""
    if self.learns_temperature:
      start = nn.initializers.constant(1 / self.init)
      log_scale = -jnp.log(self.param('temperature', start, ()))
    else:
      start = nn.initializers.constant(np.log(self.init))
      log_scale = self.param('log_scale', start, ())
    # Clipped on the way forward only, so that it can come back from above.
    clipped = jnp.minimum(log_scale, np.log(self.maximum))
    log_scale += jax.lax.stop_gradient(clipped - log_scale)
    out = {'logit_scale': jnp.exp(log_scale)}
    if self.bias_init is not None:
      out['logit_bias'] = self.param(
        'bias', nn.initializers.constant(self.bias_init), ()
      )
    return out


class DualEncoder(nn.Module):
  """Embeds images and texts so that those that belong together are close.

  CLIP (Radford et al. 2021) with `logit_bias_init=None`; SigLIP (Zhai et al.
  2023) with `logit_scale_init=10, logit_bias_init=-10`; as published, also
  `project_image=None, project_text='affine'`.

  Attributes:
    image: an image encoder.
    text: a text encoder.
    embed_dim: number of features of the embeddings E.
    project_image: kind of the images' `Projection`: 'linear', 'affine' or None.
    project_text: kind of the texts' `Projection`.
    logit_scale_init: inverse temperature at the start.
    logit_scale_max: upper limit of the inverse temperature.
    logit_bias_init: the sigmoid loss's bias at the start; None for no bias.
    learns_temperature: whether the parameter is the temperature itself, instead
      of the logarithm of its inverse.
    dtype: dtype of the projections.
  """

  image: nn.Module
  text: nn.Module
  embed_dim: Size
  project_image: str | None = 'linear'
  project_text: str | None = 'linear'
  logit_scale_init: Positive = 1 / 0.07
  logit_scale_max: Positive = 100.0
  logit_bias_init: float | None = None
  learns_temperature: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    self.image_projection = Projection(
      self.embed_dim, self.project_image, self.dtype
    )
    self.text_projection = Projection(
      self.embed_dim, self.project_text, self.dtype
    )
    self.scale = Scale(
      self.logit_scale_init,
      self.logit_scale_max,
      self.logit_bias_init,
      self.learns_temperature,
    )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Embeds a batch's `image` and `text`, as far as it has them.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      `image_embedding` and `text_embedding` [B, E], unit vectors; `logit_scale`
      [] and, with a bias, `logit_bias` [].
    """
    out = dict(self.scale())
    if 'image' in batch:
      out['image_embedding'] = self.encode_image(
        *encoders.get_array_and_mask(batch), train=train
      )
    if 'text' in batch:
      out['text_embedding'] = self.encode_text(
        batch['text'], batch.get('text_mask'), train=train
      )
    return out

  def embed(self, batch: Batch, name: str) -> Array:
    """Unit vectors [B, E] of a batch's `image` or `text`."""
    encode = {'image': self.encode_image, 'text': self.encode_text}
    return choose(name, encode, 'the feature')(
      *encoders.get_array_and_mask(batch, name)
    )

  def encode_image(
    self,
    images: Array | encoders.ImagePatches,
    mask: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """Embeds images [B, H, W, C], or their patches, as unit vectors [B, E]."""
    tokens = self.image(images, mask, train=train)
    return self.image_projection(tokens.pooled)

  def encode_text(
    self, tokens: Array, mask: Array | None = None, *, train: bool = False
  ) -> Array:
    """Embeds token ids [B, T] as unit vectors [B, E]."""
    encoded = self.text(tokens, mask, train=train)
    return self.text_projection(encoded.pooled)
