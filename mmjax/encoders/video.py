"""The vision transformer for videos."""

from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class VideoTransformer(tower.Tower):
  """Cuts a video into tubelets and lets all of them attend to each other.

  A tubelet is a patch over several frames (Arnab et al. 2021, ViViT, figure 3).
  The defaults are the encoder of VideoMAE (Tong et al. 2022), whose positions
  are fixed sines and cosines of the tubelets' numbers in one row: frames first,
  then rows, then columns.

  Attributes:
    patch_size: side of a tubelet in pixels, dividing height and width.
    tubelet_size: frames of a tubelet, dividing those of a video.
    num_frames: F, of a video.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    pooling: 'mean', 'first' or 'attention'.
    pool_norm_epsilon: added to the variance by a norm after the pooling; None
      for no such norm.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded tubelets.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  patch_size: Size
  tubelet_size: int
  num_frames: int
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  pooling: str = 'mean'
  pool_norm_epsilon: float | None = None
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.projection = mnn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
    )
    self.setup_tower(initial_norm=False)
    if self.pool_norm_epsilon is not None:
      self.pool_norm = mnn.make_norm(
        'layernorm', self.pool_norm_epsilon, self.dtype
      )

  def __call__(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes videos.

    Args:
      videos: [B, F, H, W, C] floats; H and W are those that the parameters were
        trained with, which no parameter says: of others, positions mean others.
      mask: [B, F], True where a frame is real, or [B], True where there is a
        video; None means everywhere. A tubelet is real if one of its frames is.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], N = F * H * W / (tubelet_size *
      patch_size^2).

    Raises:
      ConfigError: if videos are not floats, have another number of frames, or
        tubelets don't fill them, or `pooling` is unknown.
    """
    x, mask = self.embed(videos, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, videos: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns videos [B, F, H, W, C] into tokens [B, N, D] and a mask."""
    check_frames(videos, self.num_frames)
    mask = make_frame_mask(videos, mask)  # [B, F]
    x = cut_tubelets(
      ops.zero_masked(videos, mask), self.tubelet_size, self.patch_size
    )
    x = self.projection(x)  # [B, N, D]
    positions = ops.sincos_1d(x.shape[1], self.width, interleaved=True)
    x = x + positions[None].astype(self.dtype)
    x = self.embed_dropout(x, deterministic=not train)
    mask = shorten_mask(mask, self.tubelet_size)  # [B, F / tubelet_size]
    return x, mask.repeat(x.shape[1] // mask.shape[1], axis=1)

  def _summarise(self, x: Array, mask: Array, *, train: bool) -> Array:
    pooled = super()._summarise(x, mask, train=train)
    return pooled if self.pool_norm_epsilon is None else self.pool_norm(pooled)


def check_frames(videos: Array, number: int) -> None:
  """Checks the number of frames of videos [B, F, H, W, C].

  Raises:
    ConfigError: if F is not `number`.
  """
  if videos.shape[1] != number:
    raise ConfigError(
      f'a video has {videos.shape[1]} frames, but num_frames is {number}; pick '
      'as many, or change num_frames'
    )


def cut_tubelets(videos: Array, frames: int, side: int) -> Array:
  """Cuts videos into tubelets, frames first, then rows, then columns.

  Args:
    videos: [B, F, H, W, C].
    frames: f, of a tubelet.
    side: s, of a tubelet in pixels.

  Returns:
    [B, N, f * s * s * C], N = F * H * W / (f * s * s).

  Raises:
    ConfigError: if tubelets don't fill a video.
  """
  for name, size, part in zip(
    ('number of frames', 'height', 'width'),
    videos.shape[1:4],
    (frames, side, side),
    strict=True,
  ):
    if size % part:
      raise ConfigError(
        f"a video's {name} {size} is not divisible by {part}, a tubelet's; use "
        f'{max(size // part, 1) * part}'
      )
  return einops.rearrange(
    videos,
    'b (f t) (r p) (c q) d -> b (f r c) (t p q d)',
    t=frames,
    p=side,
    q=side,
  )


def make_frame_mask(videos: Array, mask: Array | None) -> Array:
  """The mask of frames [B, F].

  Args:
    videos: [B, F, H, W, C].
    mask: [B, F]; or [B], the same for all frames; None for True everywhere.

  Raises:
    ConfigError: for a mask of another shape, or pixels that are not floats.
  """
  ops.check_pixels(videos)
  ops.check_mask(mask, videos, 'videos', 'B F', 'B')
  shape = videos.shape[:2]
  if mask is None:
    return ops.everywhere(*shape)
  if mask.ndim == 1:
    mask = mask[:, None]
  return jnp.broadcast_to(mask, shape)


def shorten_mask(mask: Array, size: int) -> Array:
  """[B, F / size]: True where one of `size` neighbours in [B, F] is."""
  return einops.rearrange(mask, 'b (f t) -> b f t', t=size).any(axis=2)
