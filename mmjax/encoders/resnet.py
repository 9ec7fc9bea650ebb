"""The residual network."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.encoders import convolutional
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array, Size

_STEMS = ('imagenet', 'small', 'patch')
_BLOCKS = ('bottleneck', 'basic', 'plain')
_GROUP_SIZE = 16


class ResNet(convolutional.Convolutional):
  """A residual network (He et al. 2016), v1.5: strides sit in the 3x3.

  Settings: ResNet-50 is `stages=(3, 4, 6, 3), block='bottleneck', width=64,
  stem='imagenet'`; for images of 32 to 64 pixels take `block='basic',
  stem='small'` or, for little compute, `stem='patch'`; `block='plain'` has no
  shortcuts, as in VGG.

  Attributes:
    stages: number of blocks in each stage; every stage after the first halves
      the resolution and doubles the width.
    width: channels of the first stage (before a bottleneck's expansion by 4).
    block: 'bottleneck', 'basic' or 'plain'.
    stem: 'imagenet' (7x7 stride 2 and max pooling), 'small' (3x3 stride 1) or
      'patch' (`patch_size` squares, as ConvNeXt).
    patch_size: side of a patch of the patch stem.
    norm: 'group' (Wu and He 2018), 'frozen_batch' or 'none'.
    positions: whether the output tokens are normalised and get positions, for
      decoders and fusions that attend to them. Pooling is before that.
    dtype: dtype of the computation; parameters are float32.
  """

  stages: Sequence[int] = (3, 4, 6, 3)
  width: Size = 64
  block: str = 'bottleneck'
  stem: str = 'imagenet'
  patch_size: Size = 4
  norm: str = 'group'
  positions: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    for name, value, known in (
      ('stem', self.stem, _STEMS),
      ('block', self.block, _BLOCKS),
    ):
      check_choice(value, known, name)
    convolutional.check_norm(self.norm, _GROUP_SIZE, self.width)
    self.stem_layers = Stem(
      self.width, self.stem, self.patch_size, self.norm, self.dtype
    )
    blocks = []
    for stage, number in enumerate(self.stages):
      for i in range(number):
        blocks.append(
          ConvBlock(
            self.width * 2**stage,
            kind=self.block,
            stride=2 if stage > 0 and i == 0 else 1,
            norm=self.norm,
            dtype=self.dtype,
            name=f'stage{stage}_block{i}',
          )
        )
    self.blocks = blocks
    self.setup_convolutional()

  def apply_stem(self, images: Array) -> Array:
    """Turns images [B, H, W, C] into the first feature map [B, r, c, D]."""
    return self.stem_layers(images)


class Stem(nn.Module):
  """The first layers, of a kind of `ResNet.stem`."""

  width: Size
  kind: str
  patch_size: Size
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    conv = functools.partial(
      convolutional.make_conv, dtype=self.dtype, name='conv'
    )
    norm = convolutional.make_norm(self.norm, _GROUP_SIZE, self.dtype, 'norm')
    if self.kind == 'patch':
      p = self.patch_size
      for side in x.shape[1:3]:
        if side % p:
          raise ConfigError(
            f'image size {side} is not divisible by patch size {p}; use '
            f'{max(side // p, 1) * p} or pad the image'
          )
      x = conv(self.width, p, p, 'VALID')(x)
      return norm(x)
    size, stride = (7, 2) if self.kind == 'imagenet' else (3, 1)
    x = jax.nn.relu(norm(conv(self.width, size, stride)(x)))
    if self.kind == 'imagenet':
      x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    return x


class ConvBlock(nn.Module):
  """Two or three convolutions, with a shortcut unless plain."""

  width: Size
  kind: str
  stride: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    norm = functools.partial(
      convolutional.make_norm, self.norm, _GROUP_SIZE, self.dtype
    )
    conv = functools.partial(convolutional.make_conv, dtype=self.dtype)
    y = x
    if self.kind == 'bottleneck':
      out = 4 * self.width
      y = conv(self.width, 1, 1, name='conv1')(y)
      y = jax.nn.relu(norm('norm1')(y))
      y = conv(self.width, 3, self.stride, name='conv2')(y)
      y = jax.nn.relu(norm('norm2')(y))
      y = norm('norm3')(conv(out, 1, 1, name='conv3')(y))
    else:
      out = self.width
      y = conv(out, 3, self.stride, name='conv1')(y)
      y = jax.nn.relu(norm('norm1')(y))
      y = norm('norm2')(conv(out, 3, 1, name='conv2')(y))
    if self.kind != 'plain':
      if x.shape != y.shape:
        x = conv(out, 1, self.stride, name='shortcut')(x)
        x = norm('shortcut_norm')(x)
      y = x + y
    y = jax.nn.relu(y)
    self.sow('intermediates', 'output', y)
    return y
