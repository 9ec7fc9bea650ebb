"""A vision transformer for images and videos of any size."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.ops import packing
from mmjax.types import Array, Tokens


class PackedViT(nn.Module):
  """Reads images of one size, or patches of several, each in its own size.

  Several are packed in one row as in NaViT (Dehghani et al. 2023, section 2.1).
  Positions are rotary, by row and column, and neighbouring patches are merged
  at the end, as in Qwen2-VL (Wang et al. 2024, section 2.1); with windows as in
  Qwen2.5-VL (Bai et al. 2025, section 2.1.1).

  Attributes:
    width: D.
    depth: number of blocks.
    num_heads: H; the head size is divisible by 4.
    mlp_dim: hidden size of the MLPs.
    out_width: E, of the merged tokens.
    merge: how many patches, a square of them, become one token.
    patch_size: side of a patch of an image in pixels.
    frames: how many frames are one patch; an image is repeated so often.
    window: side of a window of an image in tokens; 0 for none.
    window_layers: numbers of the blocks that see no further than a window.
    rope_theta: base of the rotary positions.
    block: further settings of `mmjax.nn.Block`.
    scan: see `mmjax.nn.Stack`.
    remat: see `mmjax.nn.Stack`.
    dtype: of the computation; parameters are float32.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  out_width: int
  merge: int = 4
  patch_size: int = 14
  frames: int = 2
  window: int = 0
  window_layers: Sequence[int] = ()
  rope_theta: float = 1e4
  block: Mapping[str, Any] | None = None
  scan: bool = True
  remat: str = 'none'
  dtype: Any = jnp.float32

  def __call__(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> Tokens:
    """Encodes images of one size.

    Args:
      images: [B, H, W, C] floats.
      mask: [B], True where there is an image; None means everywhere.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, N, E], as many as `grid` says.

    Raises:
      ValueError: if H or W is not a whole number of tokens, or `window` is
        missing.
    """
    if self.window_layers and not self.window:
      raise ValueError(
        f'window_layers {tuple(self.window_layers)} need the side of a window; '
        'set window'
      )
    number, height, width = images.shape[:3]
    grid, side = self.grid(height, width), math.isqrt(self.merge)
    patches = einops.repeat(
      images,
      'b (r m p) (c n q) d -> b (r c m n) (d f p q)',
      f=self.frames,
      r=grid.rows,
      c=grid.columns,
      m=side,
      n=side,
    )
    where = packing.patch_layout([grid], side, self.window)
    tokens = self.read(
      patches,
      **{
        name: jnp.broadcast_to(place, (number, *place.shape))
        for name, place in where.items()
      },
      train=train,
    )
    if mask is None:
      return tokens
    return tokens.replace(mask=tokens.mask & mask[:, None])

  def grid(self, height: int, width: int) -> packing.Grid:
    """The tokens of an image of so many pixels.

    Raises:
      ValueError: if a side is not a whole number of tokens, or `merge` no
        square.
    """
    if math.isqrt(self.merge) ** 2 != self.merge:
      raise ValueError(f'merge {self.merge} is no square; use 1, 4 or 9')
    side = self.patch_size * math.isqrt(self.merge)
    if height % side or width % side:
      raise ValueError(
        f'images of {height} x {width} pixels are not whole tokens of {side} x '
        f'{side}; set data.image_size to a multiple of {side}'
      )
    return packing.Grid(1, height // side, width // side)

  @nn.compact
  def read(
    self,
    patches: Array,
    positions: Array,
    segments: Array,
    windows: Array | None = None,
    *,
    train: bool,
  ) -> Tokens:
    """Encodes patches of images of any sizes.

    Args:
      patches: [B, S, P] their pixels; those that are merged lie next to each
        other, and padding comes last.
      positions: [B, S, 2], row and column of each.
      segments: [B, S], which image or frame each is of, from 1 on; 0 is
        padding. Patches see those of their own.
      windows: [B, S], the same for windows; needed with `window_layers`.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, S / merge, E]; pooled is their mean.

    Raises:
      ValueError: if S is not divisible by `merge`, or windows are missing.
    """
    if patches.shape[1] % self.merge:
      raise ValueError(
        f'{patches.shape[1]} patches are not divisible by merge {self.merge}; '
        'pad them'
      )
    if self.window_layers and windows is None:
      raise ValueError(
        f'window_layers {tuple(self.window_layers)} need windows; pass them'
      )
    block = dict(self.block or {})
    pairs = self.width // self.num_heads // 4
    x = nn.Dense(
      self.width,
      use_bias=False,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      dtype=self.dtype,
      name='patches',
    )(patches)
    x, _ = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={
        **block,
        'rope_theta': self.rope_theta,
        'rope': {'sections': (pairs, pairs), 'axial': True},
      },
      local_layers=tuple(self.window_layers),
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
      name='blocks',
    )(
      x,
      mask=_same(segments),
      positions=positions,
      local_mask=None if windows is None else _same(windows),
      train=train,
    )
    x = mnn.make_norm(
      block.get('norm', 'layernorm'),
      block.get('norm_epsilon', 1e-6),
      self.dtype,
      name='last_norm',
    )(x)
    x = einops.rearrange(x, 'b (n m) d -> b n (m d)', m=self.merge)
    x = mnn.Mlp(
      self.out_width, self.merge * self.width, dtype=self.dtype, name='merger'
    )(x, train=train)
    mask = segments[:, :: self.merge] > 0
    return Tokens(x, mask, mnn.pool('mean', x, mask))


def _same(groups: Array) -> Array:
  """Which tokens [B, S, S] are of the same group; 0 is none."""
  there = (groups > 0)[:, None]
  return (groups[:, :, None] == groups[:, None]) & there
