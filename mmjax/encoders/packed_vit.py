"""A vision transformer for images and videos of any size."""

from collections.abc import Mapping, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import flexible_vit
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.types import Array, Positive, Remat, Size, TokenVectors


class PackedViT(nn.Module):
  """Encodes images of one size, or patches of several, each in its own size.

  Several are packed in one row as in NaViT (Dehghani et al. 2023, section 2.1).
  Positions are rotary, by row and column, and neighbouring patches are merged
  at the end, as in Qwen2-VL (Wang et al. 2024, section 2.1); with windows as in
  Qwen2.5-VL (Bai et al. 2025, section 2.1.1); with learned positions besides
  and levels as in Qwen3-VL (Bai et al. 2025, section 2).

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: H; the head size is divisible by 4.
    mlp_dim: hidden size of the MLPs.
    out_width: E, of the merged tokens.
    merge_size: side, in patches, of the square that becomes one token.
    patch_size: side of a patch of an image in pixels.
    temporal_patch_size: how many frames are one patch; an image is repeated so
      often.
    window: side of a window of an image in tokens; 0 for none.
    window_layers: numbers of the blocks in which patches attend to their window
      alone.
    patch_bias: whether the patch projection has a bias.
    position_grid: rows and columns of a learned position table, which is
      resized to each image's grid; None for none.
    level_layers: numbers of the blocks whose outputs are the `levels` of the
      result, each merged by itself, lowest first (DeepStack, Meng et al. 2024).
    rope_theta: base of the rotary positions.
    block: further settings of `mmjax.nn.Block`.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  out_width: Size
  merge_size: Size = 2
  patch_size: Size = 14
  temporal_patch_size: Size = 2
  window: int = 0
  window_layers: Sequence[int] = ()
  patch_bias: bool = False
  position_grid: Sequence[int] | None = None
  level_layers: Sequence[int] = ()
  rope_theta: Positive = 1e4
  block: Mapping[str, Any] | None = None
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def __call__(
    self,
    images: Array | flexible_vit.ImagePatches,
    mask: Array | None = None,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes images of one size, or patches of one image a row.

    Args:
      images: [B, H, W, C] floats; or N patches of each, whose grids are whole
        tokens.
      mask: [B], True where there is an image; None means everywhere.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, E], as many as `grid` says.

    Raises:
      ConfigError: if the images are not floats, H or W is not a whole number of
        tokens, or `window` is missing.
    """
    if self.window_layers and not self.window:
      raise ConfigError(
        f'window_layers {tuple(self.window_layers)} need the side of a window; '
        'set window'
      )
    if isinstance(images, flexible_vit.ImagePatches):
      ops.check_mask(mask, images.values, 'images', 'B')
      return self._encode_grids(images, mask, train)
    ops.check_mask(mask, images, 'images', 'B')
    number, height, width = images.shape[:3]
    grid, side = self.grid(height, width), self.merge_size
    patches = einops.repeat(
      ops.zero_masked(images, mask),
      'b (r m p) (c n q) d -> b (r c m n) (d f p q)',
      f=self.temporal_patch_size,
      r=grid.rows,
      c=grid.columns,
      m=side,
      n=side,
    )
    layout = packing.patch_layout([grid], side, self.window)
    tokens = self.encode_patches(
      patches,
      **{
        name: np.broadcast_to(array, (number, *array.shape))
        for name, array in layout.items()
      },
      train=train,
    )
    if mask is None:
      return tokens
    return tokens.replace(mask=tokens.mask & mask[:, None])

  def _encode_grids(
    self, images: flexible_vit.ImagePatches, mask: Array | None, train: bool
  ) -> TokenVectors:
    """Encodes patches that are in order of rows, those of a token apart."""
    real = images.mask if mask is None else images.mask & mask[:, None]
    side = self.merge_size
    # Of each place in the new order: its token, row and column, in patches.
    places = np.arange(real.shape[1])[None]  # [1, N]
    token, inner = np.divmod(places, side**2)
    columns = jnp.maximum(images.grid[:, 1:], side)  # [B, 1]
    down, along = jnp.divmod(token, columns // side)  # [B, N] of tokens
    row, column = down * side + inner // side, along * side + inner % side
    order = jnp.minimum(row * columns + column, real.shape[1] - 1)  # [B, N]
    values = jnp.take_along_axis(
      ops.zero_masked(images.values, real), order[:, :, None], axis=1
    )
    patches = einops.repeat(
      values,
      'b n (p q d) -> b n (d f p q)',
      f=self.temporal_patch_size,
      p=self.patch_size,
      q=self.patch_size,
    )
    windows = None
    if self.window:
      wide = -(-(columns // side) // self.window)
      windows = down // self.window * wide + along // self.window
      windows = (windows + 1) * real
    return self.encode_patches(
      patches,
      jnp.stack([row, column], axis=-1) * real[:, :, None],
      real.astype(jnp.int32),
      windows,
      train=train,
    )

  def grid(self, height: int, width: int) -> packing.Grid:
    """The tokens of an image of so many pixels.

    Raises:
      ConfigError: if a side is not a whole number of tokens.
    """
    side = self.patch_size * self.merge_size
    if height % side or width % side:
      raise ConfigError(
        f'images of {height} x {width} pixels are not whole tokens of {side} x '
        f'{side}; set data.image_size to a multiple of {side}'
      )
    return packing.Grid(1, height // side, width // side)

  @nn.compact
  def encode_patches(
    self,
    patches: Array,
    positions: Array,
    segments: Array,
    windows: Array | None = None,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes patches of images of any sizes.

    Args:
      patches: [B, S, P] their pixels; those that are merged lie next to each
        other, and padding comes last.
      positions: [B, S, 2], row and column of each.
      segments: [B, S], which image or frame each is of, from 1 on; 0 is
        padding. Patches attend to those of their own.
      windows: [B, S], the same for windows; needed with `window_layers`.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, S / M, E]; pooled is their mean; levels are
      [n, B, S / M, E] with `level_layers`, else None.

    Raises:
      ConfigError: if the pixels are not floats, S is not divisible by M, or
        windows are missing.
    """
    self._check(patches, windows)
    # Of one image a row that fills it, attention needs no segments.
    single = not self.window_layers and ops.is_everywhere(segments == 1)
    block = dict(self.block or {})
    pairs = self.width // self.num_heads // 4
    x = mnn.Dense(
      self.width,
      use_bias=self.patch_bias,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      dtype=self.dtype,
      name='patches',
    )(patches)  # [B, S, D]
    x = self._add_positions(x, positions, segments)
    hidden = {number + 1: None for number in self.level_layers}
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
      visible=mnn.Visible(
        segments=None if single else jnp.asarray(segments),
        positions=jnp.asarray(positions),
      ),
      local_segments=windows,
      hidden=hidden,
      train=train,
    )
    levels = [
      self._merger(f'level_merger_{i}')(
        self._norm(f'level_norm_{i}')(self._join(y)), train=train
      )
      for i, y in enumerate(hidden.values())
    ]
    x = self._join(self._norm('last_norm')(x))
    x = self._merger('merger')(x, train=train)  # [B, S / M, E]
    mask = segments[:, :: self.merge_size**2] > 0  # [B, S / M]
    pooled = mnn.pool('mean', x, mask)  # [B, E]
    self.sow('intermediates', 'pooled', pooled)
    return TokenVectors(x, mask, pooled, jnp.stack(levels) if levels else None)

  def _join(self, x: Array) -> Array:
    """Joins the patches of each token: [B, S / M, M * D]."""
    return einops.rearrange(x, 'b (n m) d -> b n (m d)', m=self.merge_size**2)

  def _norm(self, name: str) -> nn.Module:
    block = self.block or {}
    return mnn.make_norm(
      block.get('norm', 'layernorm'),
      block.get('norm_epsilon', 1e-6),
      self.dtype,
      name=name,
    )

  def _merger(self, name: str) -> nn.Module:
    return mnn.Mlp(
      self.out_width,
      self.merge_size**2 * self.width,
      dtype=self.dtype,
      name=name,
    )

  def _add_positions(self, x: Array, places: Array, segments: Array) -> Array:
    """Adds learned positions to patches [B, S, D], by row and column."""
    if self.position_grid is None:
      return x
    rows, columns = mnn.check_grid(self.position_grid)
    table = self.param(
      'positions_table',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (rows * columns, self.width),
      jnp.float32,
    ).astype(self.dtype)
    # The last row and column of each patch's image, as of its segment.
    number = segments.shape[1] + 1
    last = jax.vmap(
      lambda places, segments: jax.ops.segment_max(
        places, segments, num_segments=number
      )[segments]
    )(places, segments)  # [B, S, 2]
    grid = table.reshape(rows, columns, self.width)
    return x + ops.sample_positions(grid, places, last + 1)

  def _check(self, patches: Array, windows: Array | None) -> None:
    ops.check_pixels(patches)
    if patches.shape[1] % self.merge_size**2:
      raise ConfigError(
        f'{patches.shape[1]} patches are not divisible by the '
        f'{self.merge_size**2} of a token; '
        'pad them'
      )
    if self.window_layers and windows is None:
      raise ConfigError(
        f'window_layers {tuple(self.window_layers)} need windows; pass them'
      )
