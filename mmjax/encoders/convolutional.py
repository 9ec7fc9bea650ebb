"""What convolutional image encoders have in common."""

from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.parallel import convolutions, rules
from mmjax.types import Array, TokenVectors

NORMS = ('group', 'frozen_batch', 'none')


class Convolutional(nn.Module):
  """Turns the last feature map of an image into tokens.

  A subclass has a field `dtype`, calls `setup_convolutional` in its `setup`,
  and defines `apply_stem` and `blocks`, a sequence of modules from one feature
  map to the next.
  """

  # Whether tokens get positions; a field of those that may have them.
  positions = False

  def setup_convolutional(self) -> None:
    """Makes the positions, if the field sets them."""
    if self.positions:
      self.position_embedding = GridPositions(self.dtype)

  def __call__(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes images.

    Args:
      images: [B, H, W, C] floats.
      mask: [B], True where there is an image; None means everywhere.
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: values [B, N, D], one for each cell of the last feature map,
      rows first; pooled is their mean.

    Raises:
      ConfigError: if the images are not [B, H, W, C] floats, or for a setting
        that is unknown or doesn't fit them.
    """
    x, mask = self.embed(images, mask, train=train)
    x = self.stack(x, mask, train=train)  # [B, r, c, D]
    rows_columns = x.shape[1:3]
    x = einops.rearrange(x, 'b r c d -> b (r c) d')
    mask = mask[:, None].repeat(x.shape[1], axis=1)
    pooled = self.pool(x, mask, train=train)
    if self.positions:
      x = self.position_embedding(x, *rows_columns)
    return TokenVectors(x, mask, pooled)

  def embed(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Applies the stem: a feature map [B, r, c, D] and the mask [B]."""
    del train
    ops.check_layout(images)
    ops.check_pixels(images)
    ops.check_mask(mask, images, 'images', 'B')
    if mask is None:
      mask = ops.everywhere(len(images))
    return self.apply_stem(ops.zero_masked(images, mask)), mask

  def apply_stem(self, images: Array) -> Array:
    """Turns images [B, H, W, C] into the first feature map [B, r, c, D]."""
    raise NotImplementedError

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


class GridPositions(nn.Module):
  """Normalises tokens and adds a learned vector per row and one per column.

  Both vectors start about as large as the tokens, so that attention can
  separate positions from the first step.

  Attributes:
    dtype: dtype of the computation.
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


def make_conv(
  features: int,
  size: int,
  stride: int = 1,
  padding: Any = None,
  dtype: Any = jnp.float32,
  *,
  groups: int = 1,
  use_bias: bool = False,
  name: str | None = None,
) -> nn.Conv:
  """A convolution with a square kernel.

  Args:
    features: number of output channels.
    size: side of the kernel.
    stride: stride in both directions.
    padding: padding, as `nn.Conv` takes it; None for (size - 1) // 2 on each
      side, as published weights expect ('SAME' pads strided ones on one side
      only).
    dtype: dtype of the computation.
    groups: into how many groups channels are split.
    use_bias: whether it adds a bias.
    name: the Linen name.
  """
  pad = (size - 1) // 2
  return nn.Conv(
    features,
    (size, size),
    (stride, stride),
    padding=((pad, pad), (pad, pad)) if padding is None else padding,
    feature_group_count=groups,
    conv_general_dilated=convolutions.convolve,
    use_bias=use_bias,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.he_normal(), (None, None, None, 'conv')
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('conv',)),
    dtype=dtype,
    name=name,
  )


def make_norm(kind: str, group_size: int, dtype: Any, name: str):
  """A normalisation of feature maps; the identity for 'none'.

  Args:
    kind: 'group' (Wu and He 2018), 'frozen_batch' or 'none'.
    group_size: channels of a group.
    dtype: dtype of the output.
    name: the Linen name.
  """
  if kind == 'none':
    return lambda x: x
  if kind == 'frozen_batch':
    return mnn.FrozenBatchNorm(dtype=dtype, name=name)
  return nn.GroupNorm(
    num_groups=None,
    group_size=group_size,
    dtype=dtype,
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, ('conv',)),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('conv',)),
    name=name,
  )


def check_norm(kind: str, group_size: int, *widths: int) -> None:
  """Refuses an unknown norm, and widths that its groups don't divide.

  Raises:
    ConfigError: naming the legal norms, or the width.
  """
  check_choice(kind, NORMS, 'norm')
  for width in widths if kind == 'group' else ():
    if width % group_size:
      raise ConfigError(
        f'width {width} is not divisible by the {group_size} channels of a '
        f"normalisation group; use a multiple, or norm='none'"
      )
