"""Image encoders over the frames of a video."""

from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower, video
from mmjax.errors import ConfigError
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class FrameEncoder(tower.Tower):
  """Encodes each frame as an image, and lets the summaries attend over time.

  With depth 0 and mean pooling, the average over frames. With a depth, a
  factorised encoder as ViViT's model 2 (Arnab et al. 2021, section 3.3), around
  any image encoder.

  Attributes:
    image: encoder of images; its summaries have width D.
    width: number of features D.
    depth: number of blocks over time.
    num_heads: H, of those blocks.
    mlp_dim: hidden size of their MLPs.
    tubelet_size: frames that the image encoder gets at once, side by side as
      channels; 1 for an encoder that was trained on images.
    max_length: most frames, or tubelets, the size of the position table.
    positions: positions of frames where there are blocks: 'learned', 'sincos'
      or 'none'.
    pooling: 'mean', 'first', 'last' or 'attention' over frames.
    final_norm: whether the summaries of frames are normalised after the blocks.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the summaries before the blocks.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  image: nn.Module
  width: Size
  depth: int = 0
  num_heads: Size = 8
  mlp_dim: Size = 2048
  tubelet_size: Size = 1
  max_length: Size = 64
  positions: str = 'learned'
  pooling: str = 'mean'
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    if self.depth:
      self.position_embedding = mnn.Positions(
        self.width, self.max_length, self.positions, self.dtype
      )
    self.setup_tower(initial_norm=False)

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
      ConfigError: if videos are not floats, tubelets don't fill them, N is more
        than `max_length`, the image encoder has another width, or a setting is
        unknown.
    """
    x, mask = self.embed(videos, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Encodes the frames of [B, F, H, W, C]: summaries [B, N, D] and a mask."""
    size = self.tubelet_size
    if videos.shape[1] % size:
      raise ConfigError(
        f"a video's number of frames {videos.shape[1]} is not divisible by "
        f"{size}, a tubelet's; use {max(videos.shape[1] // size, 1) * size}"
      )
    mask = video.make_frame_mask(videos, mask)
    x = einops.rearrange(
      ops.zero_masked(videos, mask),
      'b (n f) h w c -> (b n) h w (f c)',
      f=size,
    )
    mask = video.shorten_mask(mask, size)  # [B, N]
    x = self.image(x, mask.reshape(-1), train=train).pooled  # [B * N, D]
    if x.shape[-1] != self.width:
      raise ConfigError(
        f"the image encoder's summaries have width {x.shape[-1]}, but that "
        f'over time is {self.width}; make them equal'
      )
    x = einops.rearrange(x, '(b n) d -> b n d', n=mask.shape[1])
    if self.depth:
      x = x + self.position_embedding(x.shape[1])
    return self.embed_dropout(x, deterministic=not train), mask
