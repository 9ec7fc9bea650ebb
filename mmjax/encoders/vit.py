"""The vision transformer."""

from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.encoders import tower
from mmjax.types import Array, Tokens

_POSITIONS = ('learned', 'sincos2d', 'none')


class ViT(tower.Tower):
  """Cuts an image into patches and lets them attend to each other.

  Dosovitskiy et al. 2021. The defaults follow the plain ViT of Beyer et al.
  2022 (mean pooling and no class token).

  Attributes:
    patch_size: side of a patch in pixels, dividing height and width.
    width: D.
    depth: number of blocks.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    positions: 'learned', 'sincos2d' or 'none'.
    class_token: whether a learned token goes before the patches.
    pooling: 'mean', 'first' (the class token), or 'attention' (SigLIP).
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
    drop_path: see `mmjax.nn.Stack`.
    scan: see `mmjax.nn.Stack`.
    remat: see `mmjax.nn.Stack`.
    dtype: of the computation; parameters are float32.
  """

  patch_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  positions: str = 'learned'
  class_token: bool = False
  pooling: str = 'mean'
  patch_bias: bool = True
  ragged: bool = False
  pre_norm: bool = False
  final_norm: bool = True
  layer: int | None = None
  block: Mapping[str, Any] | None = None
  dropout: float = 0.0
  drop_path: float = 0.0
  scan: bool = True
  remat: str = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.patches = PatchEmbedding(
      self.patch_size,
      self.width,
      positions=self.positions,
      class_token=self.class_token,
      use_bias=self.patch_bias,
      ragged=self.ragged,
      dtype=self.dtype,
    )
    self.setup_tower(initial_norm=self.pre_norm)

  def __call__(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> Tokens:
    """Encodes images.

    Args:
      images: [B, H, W, C] floats.
      mask: [B], True where there is an image; None means everywhere.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, N, D], N = H * W / patch_size^2 (+ 1).

    Raises:
      ValueError: if the patch size doesn't divide the image, or `positions` or
        `pooling` is unknown.
    """
    x, mask = self.embed(images, mask, train=train)
    x = self.stack(x, mask, train=train)
    return Tokens(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, images: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Turns images [B, H, W, C] into patch tokens [B, N, D] and a mask."""
    x = self.embed_dropout(self.patches(images), deterministic=not train)
    if self.pre_norm:
      x = self.initial_norm(x)
    if mask is None:
      mask = jnp.ones(x.shape[:1], bool)
    return x, jnp.broadcast_to(mask[:, None], x.shape[:2])

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets tokens [B, N, D] attend where `mask` [B, N] is True."""
    stop = self.layer
    if stop is not None and stop < 0:
      stop += self.depth + 1
    x, _ = self.blocks(x, mask=mask[:, None], stop=stop, train=train)
    normed = self.last_norm(x) if self.final_norm else x
    return normed if self.layer is None else x


class PatchEmbedding(nn.Module):
  """Projects patches to tokens and tells each where it stands.

  Attributes:
    patch_size: side of a patch in pixels, dividing height and width.
    width: D.
    positions: 'learned', 'sincos2d' or 'none'.
    class_token: whether a learned token goes first.
    use_bias: whether the projection has a bias.
    ragged: see `ViT.ragged`.
    dtype: of the computation.
  """

  patch_size: int
  width: int
  positions: str = 'learned'
  class_token: bool = False
  use_bias: bool = True
  ragged: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array) -> Array:
    """Embeds [B, H, W, C] as [B, N, D]."""
    rows, columns = self._grid(images)
    p = self.patch_size
    images = images[:, : rows * p, : columns * p]
    x = einops.rearrange(
      images, 'b (r p) (c q) d -> b (r c) (p q d)', r=rows, c=columns
    )
    x = nn.Dense(
      self.width,
      use_bias=self.use_bias,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(x)
    if self.class_token:
      token = self._table('class_token', 1)
      token = jnp.broadcast_to(token, (x.shape[0], *token.shape[1:]))
      x = jnp.concatenate([token, x], axis=1)
    if self.positions == 'learned':
      x = x + self._table('positions_table', x.shape[1])
    elif self.positions == 'sincos2d':
      fixed = ops.sincos_2d(rows, columns, self.width).astype(self.dtype)
      x = x.at[:, x.shape[1] - rows * columns :].add(fixed[None])
    elif self.positions != 'none':
      raise ValueError(
        f'positions {self.positions!r} is unknown; use one of {_POSITIONS}'
      )
    return x

  def _table(self, name: str, length: int) -> Array:
    table = self.param(
      name,
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (length, self.width),
      jnp.float32,
    )
    return table[None].astype(self.dtype)

  def _grid(self, images: Array) -> tuple[int, int]:
    for side in images.shape[1:3]:
      if (side % self.patch_size and not self.ragged) or side < self.patch_size:
        fits = max(side // self.patch_size, 1) * self.patch_size
        raise ValueError(
          f'image size {side} is not divisible by patch size '
          f'{self.patch_size}; use {fits} or pad the image'
        )
    height, width = images.shape[1:3]
    return height // self.patch_size, width // self.patch_size
