"""The vision transformer for images of any aspect ratio in one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import einops
import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, DropRate, Remat, Size, TokenVectors


@flax.struct.dataclass
class ImagePatches:
  """Images that were cut into patches already.

  Attributes:
    values: [B, N, p * p * C] floats, rows first; padding comes last.
    mask: [B, N] bool, True where there is a patch.
    grid: [B, 2] int32, rows and columns; 0 where there is no image.
  """

  values: Array
  mask: Array
  grid: Array


def get_array_and_mask(
  batch: Batch, name: str = 'image'
) -> tuple[Any, Array | None]:
  """The array and the mask of a feature, the arguments of its encoder.

  Args:
    batch: arrays by name: of an image also patches with their grids, as
      `mmjax.data.features.FlexibleImage` makes them.
    name: name of the feature.

  Returns:
    The array and its mask, [B] of images, [B, T] of what has a length, None
    where all is present; or `ImagePatches`, which have their mask, and None.
  """
  mask = batch.get(f'{name}_mask')
  if f'{name}_grid' not in batch:
    return batch[name], mask
  return ImagePatches(batch[name], mask, batch[f'{name}_grid']), None


class FlexibleViT(tower.Tower):
  """Lets the patches of images of different shapes attend to each other.

  NaFlex of SigLIP 2 (Tschannen et al. 2025, section 2.4.2): each image keeps
  its aspect ratio, and one position table is resized to its grid.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    position_grid: rows and columns of the learned position table.
    patch_size: side of a patch, of images that are not cut yet.
    pooling: 'mean', 'first' or 'attention' (SigLIP).
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded patches.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  position_grid: Sequence[int]
  patch_size: Size = 16
  pooling: str = 'mean'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.patches = FlexiblePatches(self.width, self.position_grid, self.dtype)
    self.setup_tower(initial_norm=False)

  def __call__(
    self,
    images: ImagePatches | Array,
    mask: Array | None = None,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes images.

    Args:
      images: N patches of each; or [B, H, W, C] floats, all of one size.
      mask: [B], True where there is an image; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D].

    Raises:
      ConfigError: if the pixels are not floats, or the patch size doesn't
        divide the images.
    """
    x, mask = self.embed(images, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self,
    images: ImagePatches | Array,
    mask: Array | None = None,
    *,
    train: bool,
  ) -> tuple[Array, Array]:
    """Turns images into tokens [B, N, D] and a mask [B, N]."""
    if not isinstance(images, ImagePatches):
      images = _cut(images, self.patch_size)
    ops.check_pixels(images.values)
    ops.check_mask(mask, images.values, 'images', 'B')
    if mask is not None:
      images = images.replace(mask=images.mask & mask[:, None])
    images = images.replace(values=ops.zero_masked(images.values, images.mask))
    x = self.embed_dropout(self.patches(images), deterministic=not train)
    return x, images.mask


def _cut(images: Array, side: int) -> ImagePatches:
  """The patches of images [B, H, W, C]."""
  number, height, width = images.shape[:3]
  if height % side or width % side:
    raise ConfigError(
      f'images of {height} x {width} pixels are not whole patches of {side} x '
      f'{side}; set data.image_size to a multiple of {side}'
    )
  values = einops.rearrange(
    images, 'b (r p) (c q) d -> b (r c) (p q d)', p=side, q=side
  )
  grid = jnp.asarray([height // side, width // side], jnp.int32)
  return ImagePatches(
    values,
    ops.everywhere(*values.shape[:2]),
    jnp.broadcast_to(grid, (number, 2)),
  )


class FlexiblePatches(nn.Module):
  """Projects patches to tokens and adds their positions.

  Attributes:
    width: number of features D.
    position_grid: rows and columns of the learned position table.
    dtype: dtype of the computation.
  """

  width: Size
  position_grid: Sequence[int]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: ImagePatches) -> Array:
    """Embeds N patches of B images as [B, N, D]."""
    x = mnn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(images.values)
    rows, columns = mnn.check_grid(self.position_grid)
    table = self.param(
      'positions_table',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (rows * columns, self.width),
      jnp.float32,
    )
    positions = ops.positions_on_grids(
      table.reshape(rows, columns, self.width),
      jnp.maximum(images.grid, 1),
      x.shape[1],
    )  # [B, N, D]
    return x + positions.astype(self.dtype)
