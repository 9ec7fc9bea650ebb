"""The vision transformer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError, check_choice
from mmjax.nn import quantized
from mmjax.types import Array, DropRate, LayerIndex, Remat, Size, TokenVectors

_POSITIONS = ('learned', 'sincos2d', 'none')
_RESIZES = ('bicubic', 'bicubic_antialiased')


class ViT(tower.Tower):
  """Cuts an image into patches and lets them attend to each other.

  Dosovitskiy et al. 2021. The defaults follow the plain ViT of Beyer et al.
  2022 (mean pooling and no class token).

  Attributes:
    patch_size: side of a patch in pixels, dividing height and width.
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    positions: 'learned', 'sincos2d' or 'none'.
    position_grid: rows and columns of a learned position table that is brought
      to an image's grid where that differs (DINOv2, Oquab et al. 2023); None
      for a table of square images of one size.
    position_resize: how it is resized: 'bicubic' (DINOv2) or
      'bicubic_antialiased' (DINOv2 with registers).
    class_token: whether a learned token goes before the patches.
    registers: number of learned tokens, without positions, between the class
      token and the patches (Darcet et al. 2024).
    mask_token: whether there is a learned token for patches that are masked.
    pooling: 'mean', 'first' (the class token), or 'attention' (SigLIP).
    pool_activation: activation of a dense layer after the pooling ('tanh' in
      Dosovitskiy et al.); None for no such layer.
    patch_bias: whether the patch projection has a bias (CLIP: no).
    ragged: whether pixels beyond the last whole patch are left out (SigLIP
      So400m/14 at 384 pixels), instead of refused.
    pre_norm: whether tokens are normalised before the stack (CLIP: yes).
    final_norm: whether they are normalised after it.
    layer: which block's output counts, -2 for the last but one (LLaVA, Liu et
      al. 2023, section 4.1); the blocks and the norm after it have parameters,
      but change nothing. None means all of them.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the embedded patches.
    patch_dropout: fraction of the patches that training leaves out, other ones
      in each image (FLIP, Li et al. 2023, section 3), which shortens the
      sequence; nothing is left out where `visible` says which patches are read.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  patch_size: Size
  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  positions: str = 'learned'
  position_grid: Sequence[int] | None = None
  position_resize: str = 'bicubic'
  class_token: bool = False
  registers: int = 0
  mask_token: bool = False
  pooling: str = 'mean'
  pool_activation: str | None = None
  patch_bias: bool = True
  ragged: bool = False
  pre_norm: bool = False
  final_norm: bool = True
  layer: LayerIndex | None = None
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  patch_dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.patches = PatchEmbedding(
      self.patch_size,
      self.width,
      positions=self.positions,
      position_grid=self.position_grid,
      position_resize=self.position_resize,
      class_token=self.class_token,
      registers=self.registers,
      mask_token=self.mask_token,
      use_bias=self.patch_bias,
      ragged=self.ragged,
      dtype=self.dtype,
    )
    self.setup_tower(initial_norm=self.pre_norm)

  def __call__(
    self,
    images: Array,
    mask: Array | None = None,
    *,
    masked: Array | None = None,
    visible: Array | None = None,
    train: bool,
  ) -> TokenVectors:
    """Encodes images.

    Args:
      images: [B, H, W, C] floats.
      mask: [B], True where there is an image; None means everywhere.
      masked: [B, P], True for those of the P patches that the mask token
        replaces; None for none of them.
      visible: int [B, K], indices of the patches that are read, as a masked
        autoencoder does (He et al. 2022, section 3); None for all P.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], N = P or K (+ 1 + registers), where P is
      H * W / patch_size^2; those of visible patches in the order of `visible`.

    Raises:
      ConfigError: if the images are not floats, the patch size doesn't divide
        them, they have other patches than the table of positions, or are not
        square without `position_grid`, `positions`, `position_resize` or
        `pooling` is unknown, or patches are masked without a mask token.
    """
    x, mask = self.embed(
      images, mask, masked=masked, visible=visible, train=train
    )
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self,
    images: Array,
    mask: Array | None = None,
    *,
    masked: Array | None = None,
    visible: Array | None = None,
    train: bool,
  ) -> tuple[Array, Array]:
    """Turns images [B, H, W, C] into patch tokens [B, N, D] and a mask."""
    ops.check_pixels(images)
    ops.check_mask(mask, images, 'images', 'B')
    x = self.patches(ops.zero_masked(images, mask), masked)
    front = int(self.class_token) + self.registers
    if visible is None and train and self.patch_dropout:
      visible = self._draw_visible(x.shape[0], x.shape[1] - front)
    if visible is not None:
      x = ops.take_patches(x, visible, front=front)
    x = self.embed_dropout(x, deterministic=not train)
    if self.pre_norm:
      x = self.initial_norm(x)
    if mask is None:
      return x, ops.everywhere(*x.shape[:2])
    return x, jnp.broadcast_to(mask[:, None], x.shape[:2])

  def cut(self, images: Array) -> tuple[Array, tuple[int, int]]:
    """Cuts images: pixels of patches [B, P, E], and their rows and columns."""
    return ops.cut_patches(images, self.patch_size, ragged=self.ragged)

  def _draw_visible(self, number: int, patches: int) -> Array:
    """Indices [B, K] of the patches that patch dropout leaves."""
    left = max(1, round((1 - self.patch_dropout) * patches))
    scores = jax.random.uniform(self.make_rng('dropout'), (number, patches))
    return jnp.argsort(scores, axis=1)[:, :left]

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets tokens [B, N, D] attend where `mask` [B, N] is True."""
    stop = self.layer
    if stop is not None and stop < 0:
      stop += self.depth + 1
    visible = mnn.Visible.of_keys(mask)
    x, _ = self.blocks(x, visible=visible, stop=stop, train=train)
    normed = self.last_norm(x) if self.final_norm else x
    return normed if self.layer is None else x


class PatchEmbedding(nn.Module):
  """Projects patches to tokens and adds their positions.

  Attributes:
    patch_size: side of a patch in pixels, dividing height and width.
    width: number of features D.
    positions: 'learned', 'sincos2d' or 'none'.
    position_grid: rows and columns of a learned position table that is brought
      to an image's grid; None for a table of square images of one size.
    position_resize: 'bicubic' or 'bicubic_antialiased'.
    class_token: whether a learned token goes first.
    registers: number of learned tokens after the class token.
    mask_token: whether there is a learned token for patches that are masked.
    use_bias: whether the projection has a bias.
    ragged: whether pixels beyond the last whole patch are left out.
    dtype: dtype of the computation.
  """

  patch_size: Size
  width: Size
  positions: str = 'learned'
  position_grid: Sequence[int] | None = None
  position_resize: str = 'bicubic'
  class_token: bool = False
  registers: int = 0
  mask_token: bool = False
  use_bias: bool = True
  ragged: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, masked: Array | None = None) -> Array:
    """Embeds [B, H, W, C] as [B, N, D]; `masked` is [B, P]."""
    x, (rows, columns) = ops.cut_patches(
      images, self.patch_size, ragged=self.ragged
    )
    self._check_channels(x.shape[-1])
    x = mnn.Dense(
      self.width,
      use_bias=self.use_bias,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(x)
    x = self._replace_masked(x, masked)  # [B, P, D]
    if self.class_token:
      x = self._prepend('class_token', 1, x)  # [B, 1 + P, D]
    x = self._add_positions(x, rows, columns)
    if self.registers:
      front = int(self.class_token)
      rest = self._prepend('registers', self.registers, x[:, front:])
      x = jnp.concatenate([x[:, :front], rest], axis=1)
    return x  # [B, N, D]

  def _check_channels(self, size: int) -> None:
    if not self.has_variable('params', 'projection'):
      return
    params = {'projection': self.get_variable('params', 'projection')}
    plain = quantized.as_plain(nn.meta.unbox(params))
    have = plain['projection']['kernel'].shape[0]
    if have != size:
      channels = [number // self.patch_size**2 for number in (size, have)]
      raise ConfigError(
        f'the images have {channels[0]} channels, the parameters are for '
        f'{channels[1]}; give these images, such as RGB for 3'
      )

  def _replace_masked(self, x: Array, masked: Array | None) -> Array:
    if not self.mask_token:
      if masked is not None:
        raise ConfigError(
          'patches are masked, but there is no token to replace them; set '
          'mask_token=True'
        )
      return x
    token = self._make_table('mask_token', 1)
    return x if masked is None else jnp.where(masked[:, :, None], token, x)

  def _prepend(self, name: str, number: int, x: Array) -> Array:
    tokens = self._make_table(name, number)
    tokens = jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape[1:]))
    return jnp.concatenate([tokens, x], axis=1)

  def _add_positions(self, x: Array, rows: int, columns: int) -> Array:
    if self.positions == 'learned':
      return x + self._make_positions(rows, columns)
    if self.positions == 'sincos2d':
      fixed = ops.sincos_2d(rows, columns, self.width).astype(self.dtype)
      return x.at[:, x.shape[1] - rows * columns :].add(fixed[None])
    check_choice(self.positions, _POSITIONS, 'positions')
    return x

  def _make_positions(self, rows: int, columns: int) -> Array:
    """Positions [1, N, D] of an image with so many rows and columns."""
    check_choice(self.position_resize, _RESIZES, 'position_resize')
    front, number = int(self.class_token), None
    if self.has_variable('params', 'positions_table'):
      table = nn.meta.unbox(self.get_variable('params', 'positions_table'))
      number = len(table) - front
    grid = mnn.choose_grid(rows, columns, self.position_grid, number)
    return mnn.fit_positions(
      self._make_table('positions_table', front + math.prod(grid)),
      grid,
      rows,
      columns,
      front=front,
      antialias=self.position_resize == 'bicubic_antialiased',
    )

  def _make_table(self, name: str, length: int) -> Array:
    table = self.param(
      name,
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (length, self.width),
      jnp.float32,
    )
    return table[None].astype(self.dtype)
