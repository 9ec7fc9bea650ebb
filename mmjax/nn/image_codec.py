"""The two halves of a convolutional autoencoder of images."""

from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.nn import attention
from mmjax.parallel import convolutions
from mmjax.types import Array, Size

_EPSILON = 1e-6
_LECUN, _ZEROS = nn.initializers.lecun_normal(), nn.initializers.zeros


class LatentEncoder(nn.Module):
  """Maps images to feature maps of a lower resolution.

  The encoder of VQGAN (Esser et al. 2021, appendix A) and of latent diffusion
  (Rombach et al. 2022): each level after the first halves the resolution.

  Attributes:
    width: channels of the first level, before its multiplier.
    out_channels: channels of the result.
    multipliers: factor of the width at each level, the largest map first.
    num_blocks: residual blocks a level.
    patch_size: side of the squares of pixels that the first convolution reads
      as one; 1 as published.
    attention_levels: levels with attention after each block.
    middle_attention: whether the smallest map gets attention.
    groups: number of groups of a normalisation.
    dtype: dtype of the computation.
  """

  width: Size
  out_channels: Size
  multipliers: Sequence[int]
  num_blocks: Size
  patch_size: Size = 1
  attention_levels: Sequence[int] = ()
  middle_attention: bool = True
  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Maps images [B, H, W, C] to [B, h, w, `out_channels`]."""
    check_groups(self.width, self.multipliers, self.groups)
    ops.check_pixels(images)
    x = images
    if self.patch_size > 1:
      patches, (rows, _) = ops.cut_patches(images, self.patch_size)
      x = einops.rearrange(patches, 'b (r c) d -> b r c d', r=rows)
    x = conv(self.width, 3, self.dtype, 'stem')(x)
    last = len(self.multipliers) - 1
    for level, factor in enumerate(self.multipliers):
      for i in range(self.num_blocks):
        x = self._block(x, factor, level, i)
      if level < last:
        # Published encoders pad on one side alone.
        x = conv(
          x.shape[-1],
          3,
          self.dtype,
          f'level{level}_downsample',
          stride=2,
          padding=((0, 1), (0, 1)),
        )(x)
    x = Middle(self.middle_attention, self.groups, self.dtype, name='middle')(x)
    x = jax.nn.silu(group_norm(self.groups, self.dtype, 'norm')(x))
    return conv(self.out_channels, 3, self.dtype, 'head')(x)

  def _block(self, x: Array, factor: int, level: int, i: int) -> Array:
    name = f'level{level}_block{i}'
    width = self.width * factor
    x = ResidualConvolutions(width, self.groups, self.dtype, name=name)(x)
    if level in self.attention_levels:
      name = f'level{level}_attention{i}'
      x = MapAttention(self.groups, self.dtype, name=name)(x)
    return x


class LatentDecoder(nn.Module):
  """Maps feature maps back to images; the mirror of `LatentEncoder`.

  It has one block a level more, as published. Its last convolution starts at
  zero, so the first images are gray, which let an autoencoder of Gaussian
  latents learn faster, and one of FSQ tokens as fast.

  Attributes:
    width: width, as in the encoder.
    channels: channels C of images.
    multipliers: multipliers, as in the encoder.
    num_blocks: number of blocks, as in the encoder.
    patch_size: patch size, as in the encoder.
    attention_levels: attention levels, as in the encoder.
    middle_attention: whether the middle attends, as in the encoder.
    groups: groups, as in the encoder.
    dtype: dtype of the computation; images are float32.
  """

  width: Size
  channels: Size
  multipliers: Sequence[int]
  num_blocks: Size
  patch_size: Size = 1
  attention_levels: Sequence[int] = ()
  middle_attention: bool = True
  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latents: Array) -> Array:
    """Maps [B, h, w, D] to images [B, H, W, C]."""
    width = self.width * self.multipliers[-1]
    x = conv(width, 3, self.dtype, 'stem')(latents)
    x = Middle(self.middle_attention, self.groups, self.dtype, name='middle')(x)
    for level in reversed(range(len(self.multipliers))):
      width = self.width * self.multipliers[level]
      for i in range(self.num_blocks + 1):
        name = f'level{level}_block{i}'
        x = ResidualConvolutions(width, self.groups, self.dtype, name=name)(x)
        if level in self.attention_levels:
          name = f'level{level}_attention{i}'
          x = MapAttention(self.groups, self.dtype, name=name)(x)
      if level > 0:
        x = einops.repeat(x, 'b h w d -> b (h p) (w q) d', p=2, q=2)
        x = conv(width, 3, self.dtype, f'level{level}_upsample')(x)
    x = jax.nn.silu(group_norm(self.groups, self.dtype, 'norm')(x))
    outputs = self.patch_size**2 * self.channels
    x = conv(outputs, 3, self.dtype, 'head', init=_ZEROS)(x)
    if self.patch_size > 1:
      grid = x.shape[1:3]
      x = einops.rearrange(x, 'b r c d -> b (r c) d')
      x = ops.join_patches(x, grid, self.channels)
    return x.astype(jnp.float32)


class ResidualConvolutions(nn.Module):
  """Two 3x3 convolutions, each after a norm and SiLU, and a shortcut.

  Attributes:
    width: number of output channels.
    groups: number of groups of a normalisation.
    dtype: dtype of the computation.
  """

  width: Size
  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, h, w, C] to [B, h, w, `width`]."""
    y = x
    for i in range(2):
      y = jax.nn.silu(group_norm(self.groups, self.dtype, f'norm{i}')(y))
      y = conv(self.width, 3, self.dtype, f'conv{i}')(y)
    if x.shape[-1] != self.width:
      x = conv(self.width, 1, self.dtype, 'shortcut')(x)
    return x + y


class MapAttention(nn.Module):
  """Each cell of a feature map attends to all, with one head; a shortcut.

  Attributes:
    groups: number of groups of the normalisation.
    dtype: dtype of the computation.
  """

  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, h, w, C] to the same shape."""
    width = x.shape[-1]
    y = group_norm(self.groups, self.dtype, 'norm')(x)
    y = einops.rearrange(y, 'b h w d -> b (h w) d')
    y, _ = attention.Attention(
      width, num_heads=1, dtype=self.dtype, name='attention'
    )(y, train=False)
    return x + y.reshape(x.shape)


class Middle(nn.Module):
  """The blocks of the smallest feature map.

  Attributes:
    attention: whether there is attention between the two blocks.
    groups: number of groups of a normalisation.
    dtype: dtype of the computation.
  """

  attention: bool = True
  groups: Size = 32
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, h, w, C] to the same shape."""
    width = x.shape[-1]
    x = ResidualConvolutions(width, self.groups, self.dtype, name='block0')(x)
    if self.attention:
      x = MapAttention(self.groups, self.dtype, name='attention')(x)
    return ResidualConvolutions(width, self.groups, self.dtype, name='block1')(
      x
    )


def check_groups(width: int, multipliers: Sequence[int], groups: int) -> None:
  """Refuses widths that the groups of a normalisation don't divide.

  Raises:
    ConfigError: naming the width and the number of groups.
  """
  for factor in (1, *multipliers):
    if width * factor % groups:
      raise ConfigError(
        f'a level of {width} * {factor} channels is not divisible into '
        f'groups={groups}; use a width that is a multiple, or fewer groups'
      )


def project(features: int, dtype: Any, name: str) -> nn.Conv:
  """A linear map of each cell of a feature map, stored as a convolution."""
  return conv(features, 1, dtype, name)


def conv(
  features: int,
  size: int,
  dtype: Any,
  name: str,
  *,
  stride: int = 1,
  padding: Any = None,
  init: nn.initializers.Initializer = _LECUN,
) -> nn.Conv:
  """A convolution of `size` x `size`, padded by (size - 1) // 2 each side."""
  before = (size - 1) // 2
  return nn.Conv(
    features,
    (size, size),
    (stride, stride),
    padding=((before, before),) * 2 if padding is None else padding,
    conv_general_dilated=convolutions.convolve,
    kernel_init=nn.with_logical_partitioning(init, (None, None, None, 'conv')),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('conv',)),
    dtype=dtype,
    name=name,
  )


def group_norm(groups: int, dtype: Any, name: str) -> nn.GroupNorm:
  """A normalisation of groups of channels."""
  return nn.GroupNorm(
    num_groups=groups,
    epsilon=_EPSILON,
    dtype=dtype,
    use_fast_variance=False,
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, ('conv',)),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('conv',)),
    name=name,
  )
