"""A network that judges patches of images, for adversarial losses."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.nn import image_codec
from mmjax.types import Array, Size

_MOST = 8  # Factor of the width that deeper layers keep.
_INITIAL = nn.initializers.normal(0.02)


class PatchDiscriminator(nn.Module):
  """Logits of patches of images, high where they look real.

  PatchGAN (Isola et al. 2017, section 3.2.2 and appendix 6.1.2), as VQGAN uses
  it (Esser et al. 2021): `num_layers` convolutions of 4 x 4 that halve the
  resolution and double the width, and two that don't, with leaky ReLUs. A logit
  is of 16 x 16 pixels with one layer, of 34 with two and of 70 with three.
  Instead of batch normalisation there is that of groups of channels, so that
  examples don't depend on each other.

  Attributes:
    width: channels of the first convolution; 64 as published. Others have up to
      8 times as many.
    num_layers: number of convolutions that halve the resolution.
    groups: number of groups of a normalisation.
    dtype: dtype of the computation; parameters and logits are float32.
  """

  width: Size
  num_layers: Size = 3
  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Maps images [B, H, W, C] to logits [B, h, w], h = H / 2**layers - 2.

    Raises:
      ConfigError: for images of which no logit is left.
    """
    ops.check_pixels(images)
    factors = [min(2**i, _MOST) for i in range(self.num_layers + 1)]
    image_codec.check_groups(self.width, factors, self.groups)
    least = 3 * 2**self.num_layers
    if min(images.shape[1:3]) < least:
      raise ConfigError(
        f'images of {images.shape[1]} x {images.shape[2]} pixels are too small '
        f'for a discriminator with num_layers={self.num_layers}, which needs '
        f'{least}; use fewer layers, or larger images'
      )
    conv = functools.partial(
      image_codec.conv, size=4, dtype=self.dtype, init=_INITIAL
    )
    x = images
    for i, factor in enumerate(factors):
      stride = 2 if i < self.num_layers else 1
      x = conv(self.width * factor, name=f'conv{i}', stride=stride)(x)
      if i:
        x = image_codec.group_norm(self.groups, self.dtype, f'norm{i}')(x)
      x = jax.nn.leaky_relu(x, 0.2)
    return conv(1, name='head')(x)[..., 0].astype(jnp.float32)
