"""Convolutional image encoders."""

import functools
from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.errors import ConfigError, check_choice
from mmjax.parallel import rules
from mmjax.types import Array, Size, Tokens

_STEMS = ('imagenet', 'small', 'patch')
_BLOCKS = ('bottleneck', 'basic', 'plain')
_NORMS = ('group', 'frozen_batch', 'none')
_GROUP_SIZE = 16


class ResNet(nn.Module):
  """A residual network (He et al. 2016), v1.5: strides sit in the 3x3.

  Settings: ResNet-50 is `stages=(3, 4, 6, 3), block='bottleneck', width=64,
  stem='imagenet'`; for images of 32 to 64 pixels take `block='basic',
  stem='small'` or, for little compute, `stem='patch'`; `block='plain'` has no
  shortcuts and so is VGG-like (Simonyan and Zisserman 2015).

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
    dtype: of the computation; parameters are float32.
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
      ('norm', self.norm, _NORMS),
    ):
      check_choice(value, known, name)
    if self.norm == 'group' and self.width % _GROUP_SIZE:
      raise ConfigError(
        f'width {self.width} is not divisible by the {_GROUP_SIZE} channels of '
        f"a normalisation group; use a multiple, or norm='none'"
      )
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
    if self.positions:
      self.position_embedding = GridPositions(self.dtype)

  def __call__(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> Tokens:
    """Encodes images.

    Args:
      images: [B, H, W, C] floats.
      mask: [B], True where there is an image; None means everywhere.
      train: unused, as there is no dropout.

    Returns:
      Tokens: values [B, N, D], one for each cell of the last feature map, rows
      first.

    Raises:
      ConfigError: for an unknown setting, a width that groups don't divide, or
        an image that patches don't.
    """
    x, mask = self.embed(images, mask, train=train)
    x = self.stack(x, mask, train=train)  # [B, r, c, D]
    rows_columns = x.shape[1:3]
    x = einops.rearrange(x, 'b r c d -> b (r c) d')
    mask = jnp.broadcast_to(mask[:, None], x.shape[:2])
    pooled = self.pool(x, mask, train=train)
    if self.positions:
      x = self.position_embedding(x, *rows_columns)
    return Tokens(x, mask, pooled)

  def embed(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Applies the stem: a feature map [B, r, c, D] and the mask [B]."""
    del train
    if mask is None:
      mask = jnp.ones(images.shape[:1], bool)
    return self.stem_layers(images), mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Applies the blocks to a feature map [B, r, c, D]."""
    del mask, train
    for block in self.blocks:
      x = rules.constrain(block(x), 'batch', None, None, None)
    return x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Averages the cells [B, N, D] as [B, D]; sown as `pooled`."""
    del train
    pooled = mnn.pool('mean', x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled


class Stem(nn.Module):
  """The first layers, of a kind of `ResNet.stem`."""

  width: Size
  kind: str
  patch_size: Size
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    if self.kind == 'patch':
      p = self.patch_size
      for side in x.shape[1:3]:
        if side % p:
          raise ConfigError(
            f'image size {side} is not divisible by patch size {p}; use '
            f'{max(side // p, 1) * p} or pad the image'
          )
      x = _make_conv(self.width, p, p, self.dtype, 'conv', padding='VALID')(x)
      return _make_norm(self.norm, self.dtype, 'norm')(x)
    size, stride = (7, 2) if self.kind == 'imagenet' else (3, 1)
    x = _make_conv(self.width, size, stride, self.dtype, 'conv')(x)
    x = jax.nn.relu(_make_norm(self.norm, self.dtype, 'norm')(x))
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
    norm = functools.partial(_make_norm, self.norm, self.dtype)
    conv = functools.partial(_make_conv, dtype=self.dtype)
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


class GridPositions(nn.Module):
  """Normalises tokens and adds a learned vector a row and one a column.

  Both vectors start about as large as the tokens, so that attention can tell
  positions apart from the first step.

  Attributes:
    dtype: of the computation.
  """

  dtype: Any

  @nn.compact
  def __call__(self, x: Array, rows: int, columns: int) -> Array:
    """Maps [B, rows * columns, D] to the same shape."""

    def table(name: str, length: int) -> Array:
      init = nn.with_logical_partitioning(
        nn.initializers.normal(0.5), (None, 'embed')
      )
      shape = (length, x.shape[-1])
      return self.param(name, init, shape, jnp.float32).astype(self.dtype)

    grid = table('rows', rows)[:, None] + table('columns', columns)[None]
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='norm')(x)
    return x + einops.rearrange(grid, 'r c d -> 1 (r c) d')


def _make_conv(
  features: int,
  size: int,
  stride: int,
  dtype: Any,
  name: str,
  padding: Any = None,
) -> nn.Conv:
  # The same padding on both sides, as published weights expect; 'SAME' pads
  # strided convolutions on one side only.
  pad = (size - 1) // 2
  return nn.Conv(
    features,
    (size, size),
    (stride, stride),
    padding=padding or ((pad, pad), (pad, pad)),
    use_bias=False,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.he_normal(), (None, None, None, 'conv')
    ),
    dtype=dtype,
    name=name,
  )


def _make_norm(kind: str, dtype: Any, name: str):
  if kind == 'none':
    return lambda x: x
  if kind == 'frozen_batch':
    return mnn.FrozenBatchNorm(dtype=dtype, name=name)
  return nn.GroupNorm(
    num_groups=None,
    group_size=_GROUP_SIZE,
    dtype=dtype,
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, ('conv',)),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('conv',)),
    name=name,
  )
