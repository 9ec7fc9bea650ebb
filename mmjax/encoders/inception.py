"""Inception, as an image encoder."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.encoders import convolutional
from mmjax.errors import ConfigError
from mmjax.types import Array, Size

_GROUP_SIZE = 8
_BRANCHES = 6
# Szegedy et al. 2015, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool
# proj of the modules of each stage.
_GOOGLENET = (
  ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
  (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
  ),
  ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class Inception(convolutional.Convolutional):
  """Modules that convolve with several kernel sizes side by side.

  Inception v1, GoogLeNet (Szegedy et al. 2015, table 1), by default, without
  its auxiliary classifiers, dropout and local response normalisation; with
  `norm='frozen_batch'` each convolution is normalised (Ioffe and Szegedy 2015).

  Attributes:
    stages: the modules of each stage, a module by six numbers of channels: 1x1;
      3x3 reduced, 3x3; 5x5 reduced, 5x5; after pooling. Each stage halves the
      resolution.
    stem_width: channels of the first convolutions, of which the last has three
      times as many.
    norm: 'group' (Wu and He 2018), 'frozen_batch' or 'none'.
    positions: whether the output tokens are normalised and get positions, for
      decoders and fusions that attend to them. Pooling is before that.
    dtype: dtype of the computation; parameters are float32.
  """

  stages: Sequence[Sequence[Sequence[int]]] = _GOOGLENET
  stem_width: Size = 64
  norm: str = 'group'
  positions: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    modules = [channels for stage in self.stages for channels in stage]
    for channels in modules:
      if len(channels) != _BRANCHES:
        raise ConfigError(
          f'a module of stages has {list(channels)}; give it {_BRANCHES} '
          'numbers: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, after pooling'
        )
    convolutional.check_norm(
      self.norm, _GROUP_SIZE, self.stem_width, *sum(map(tuple, modules), ())
    )
    make = functools.partial(InceptionModule, norm=self.norm, dtype=self.dtype)
    self.stem = InceptionStem(self.stem_width, self.norm, self.dtype)
    self.blocks = [
      make(tuple(channels), halve=i == 0, name=f'stage{stage}_module{i}')
      for stage, modules in enumerate(self.stages)
      for i, channels in enumerate(modules)
    ]
    self.setup_convolutional()

  def apply_stem(self, images: Array) -> Array:
    """Turns images [B, H, W, C] into the first feature map [B, r, c, D]."""
    return self.stem(images)


class InceptionStem(nn.Module):
  """The convolutions before the first module.

  Attributes:
    width: channels of all convolutions but the last, which has 3 * width.
    norm: 'group', 'frozen_batch' or 'none'.
    dtype: dtype of the computation.
  """

  width: Size
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Maps images [B, H, W, C] to [B, H / 4, W / 4, 3 * width], rounded up."""
    conv = functools.partial(NormedConv, norm=self.norm, dtype=self.dtype)
    x = conv(self.width, 7, 2, name='conv1')(images)
    x = _pool(x, 2)
    x = conv(self.width, 1, name='conv2')(x)
    return conv(3 * self.width, 3, name='conv3')(x)


class InceptionModule(nn.Module):
  """Four branches side by side (Szegedy et al. 2015, figure 2b).

  Attributes:
    channels: numbers of channels of 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5;
      after pooling.
    halve: whether max pooling halves the resolution before.
    norm: 'group', 'frozen_batch' or 'none'.
    dtype: dtype of the computation.
  """

  channels: Sequence[int]
  halve: bool
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, r, c, C] to [B, r, c, D], or halves r and c, rounded up."""
    conv = functools.partial(NormedConv, norm=self.norm, dtype=self.dtype)
    one, reduce3, three, reduce5, five, pooled = self.channels
    if self.halve:
      x = _pool(x, 2)
    y = jnp.concatenate(
      [
        conv(one, 1, name='conv1')(x),
        conv(three, 3, name='conv3')(conv(reduce3, 1, name='reduce3')(x)),
        conv(five, 5, name='conv5')(conv(reduce5, 1, name='reduce5')(x)),
        conv(pooled, 1, name='conv_pool')(_pool(x, 1)),
      ],
      axis=-1,
    )
    self.sow('intermediates', 'output', y)
    return y


class NormedConv(nn.Module):
  """A convolution, its norm and a ReLU.

  Attributes:
    width: number of features D.
    size: side of the kernel.
    stride: stride in both directions.
    norm: 'group', 'frozen_batch' or 'none'; only without a norm is there a
      bias.
    dtype: dtype of the computation.
  """

  width: Size
  size: Size
  stride: Size = 1
  norm: str = 'none'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, r, c, C] to [B, r / stride, c / stride, D], rounded up."""
    x = convolutional.make_conv(
      self.width,
      self.size,
      self.stride,
      dtype=self.dtype,
      use_bias=self.norm == 'none',
      name='conv',
    )(x)
    norm = convolutional.make_norm(self.norm, _GROUP_SIZE, self.dtype, 'norm')
    return jax.nn.relu(norm(x))


def _pool(x: Array, stride: int) -> Array:
  return nn.max_pool(x, (3, 3), (stride, stride), padding=((1, 1), (1, 1)))
