"""The video transformer that is factorised into space and time."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.encoders import frames, vit
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class FactorisedVideoTransformer(nn.Module):
  """A transformer within tubelets of the same time, then one over time.

  ViViT's model 2, the factorised encoder (Arnab et al. 2021, section 3.3):
  `FrameEncoder` around a `ViT` of tubelets. Instead of a class token, `pooling`
  makes the summaries of both.

  Attributes:
    patch_size: side of a tubelet in pixels, dividing height and width.
    tubelet_size: frames of a tubelet, dividing those of a video.
    width: number of features D.
    depth: number of blocks over space.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    time_depth: number of blocks over time.
    max_length: most tubelets in a row in time, the size of the position table.
    position_grid: as of `ViT`, of the tubelets of a time.
    pooling: 'mean', 'first' or 'attention', over space and over time.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tubelets, and on the summaries over space.
    drop_path: stochastic depth of the last block over space, and over time.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  patch_size: Size
  tubelet_size: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  time_depth: int = 4
  max_length: Size = 64
  position_grid: Sequence[int] | None = None
  pooling: str = 'mean'
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    alike = {
      'width': self.width,
      'num_heads': self.num_heads,
      'mlp_dim': self.mlp_dim,
      'pooling': self.pooling,
      'block': self.block,
      'dropout': self.dropout,
      'drop_path': self.drop_path,
      'scan': self.scan,
      'remat': self.remat,
      'dtype': self.dtype,
    }
    # Without a parent, so that it becomes a part of the frames' encoder.
    image = vit.ViT(
      self.patch_size,
      depth=self.depth,
      position_grid=self.position_grid,
      **alike,
      parent=None,
    )
    self.over_time = frames.FrameEncoder(
      image,
      depth=self.time_depth,
      tubelet_size=self.tubelet_size,
      max_length=self.max_length,
      **alike,
    )

  def __call__(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes videos.

    Args:
      videos: [B, F, H, W, C] floats.
      mask: [B, F], True where a frame is real, or [B], True where there is a
        video; None means everywhere. A tubelet is real if one of its frames is.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], N = F / tubelet_size.

    Raises:
      ConfigError: if videos are not floats, tubelets don't fill them or are
        others than those of the positions, N is more than `max_length`, or
        `pooling` is unknown.
    """
    return self.over_time(videos, mask, train=train)

  def embed(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Encodes [B, F, H, W, C] over space: [B, N, D] and a mask [B, N]."""
    return self.over_time.embed(videos, mask, train=train)

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets summaries [B, N, D] attend over time where `mask` is True."""
    return self.over_time.stack(x, mask, train=train)

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises [B, N, D] over time as [B, D]; sown as `pooled`."""
    return self.over_time.pool(x, mask, train=train)
