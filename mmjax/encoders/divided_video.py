"""The video transformer with divided space-time attention."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower, video
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class DividedVideoTransformer(tower.Tower):
  """Lets patches attend over time, then within their frame.

  TimeSformer (Bertasius et al. 2021, section 3, 'divided space-time
  attention'), which costs (F + P) * F * P instead of (F * P)^2. In place of a
  class token, real patches are pooled, and there is no further dense layer
  after the attention over time.

  Attributes:
    patch_size: side of a patch in pixels, dividing height and width.
    num_frames: F, of a video.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    position_grid: rows and columns of the positions in space, which are brought
      to a frame's grid where that differs; None for square frames of one size.
    pooling: 'mean', 'first' or 'attention'.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.DividedBlock`.
    dropout: rate on the embedded patches.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  patch_size: Size
  num_frames: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  position_grid: Sequence[int] | None = None
  pooling: str = 'mean'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.patches = FramePatches(
      self.patch_size, self.width, self.position_grid, self.dtype
    )
    self.setup_tower(
      initial_norm=False, stack=mnn.DividedStack, frames=self.num_frames
    )

  def __call__(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes videos.

    Args:
      videos: [B, F, H, W, C] floats.
      mask: [B, F], True where a frame is real, or [B], True where there is a
        video; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], N = F * H * W / patch_size^2, frames
      first, then rows, then columns.

    Raises:
      ConfigError: if videos are not floats, have another number of frames, or
        patches don't fill them or are others than those of the positions, or
        `pooling` is unknown.
    """
    x, mask = self.embed(videos, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns videos [B, F, H, W, C] into tokens [B, N, D] and a mask."""
    video.check_frames(videos, self.num_frames)
    mask = video.make_frame_mask(videos, mask)  # [B, F]
    x = self.patches(ops.zero_masked(videos, mask))  # [B, N, D]
    x = self.embed_dropout(x, deterministic=not train)
    return x, mask.repeat(x.shape[1] // self.num_frames, axis=1)


class FramePatches(nn.Module):
  """Projects patches, and adds learned positions in space and in time.

  Attributes:
    patch_size: side of a patch in pixels.
    width: number of features D.
    position_grid: as of `DividedVideoTransformer`.
    dtype: dtype of the computation.
  """

  patch_size: Size
  width: Size
  position_grid: Sequence[int] | None
  dtype: Any

  @nn.compact
  def __call__(self, videos: Array) -> Array:
    """Embeds [B, F, H, W, C] as [B, N, D]."""
    frames = videos.shape[1]
    x = video.cut_tubelets(videos, 1, self.patch_size)
    x = mnn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(x)
    number = x.shape[1] // frames  # P
    rows, columns = (side // self.patch_size for side in videos.shape[2:4])
    known = None
    if self.has_variable('params', 'space'):
      known = len(nn.meta.unbox(self.get_variable('params', 'space'))['table'])
    grid = mnn.choose_grid(rows, columns, self.position_grid, known)
    table = lambda name, length: mnn.Positions(
      self.width, length, dtype=self.dtype, name=name
    )(length)
    space = table('space', math.prod(grid))  # [1, P, D]
    space = mnn.fit_positions(space, grid, rows, columns)
    over_space = jnp.tile(space, (1, frames, 1))
    over_time = jnp.repeat(table('time', frames), number, axis=1)
    return x + over_space + over_time
