"""MMDiT: a diffusion transformer with a stream for the text."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.models import denoiser
from mmjax.nn import remat as remat_lib
from mmjax.types import Array, Batch, Remat, Size


class MMDiT(denoiser.Denoiser):
  """Predicts the noise in an image, or its velocity, beside its text.

  Stable Diffusion 3 (Esser et al. 2024): tokens of patches and of the text have
  weights of their own and attend to each other (`mmjax.nn.JointBlock`); the
  time and the text's pooled vector modulate both. Without its text, an example
  has no such tokens, and a pooled vector of 0.

  Attributes:
    width: number of features D, divisible by 4.
    depth: number of blocks, the last of which only reads the text.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    patch_size: side p of a patch in pixels.
    channels: number of channels C of images or latents.
    out_channels: number of outputs O a pixel, at least C; 0 for C.
    text: a text encoder, trained along; None where the batch's `text` are the
      vectors of one already, [B, T, E], and its `text_pooled` [B, P] their
      summary.
    positions_grid: rows and columns of the table of positions, which is cropped
      around its center for smaller images; 0 for a table of the image's size.
    base_grid: number of rows and columns of patches to which positions count;
      0 for those of the table.
    dual_layers: numbers of the blocks whose patches have a second attention.
    qk_norm: 'rmsnorm' or 'layernorm' of queries and keys; None for none.
    feature: name of the array that is drawn.
    remat: what the backward pass computes again: 'none', 'full' or 'dots'.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: Size
  num_heads: Size
  mlp_dim: Size
  patch_size: Size
  channels: Size = 3
  out_channels: int = 0
  text: nn.Module | None = None
  positions_grid: int = 0
  base_grid: int = 0
  dual_layers: Sequence[int] = ()
  qk_norm: str | None = None
  feature: str = 'image'
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    wrong = [i for i in self.dual_layers if not 0 <= i < self.depth]
    if wrong:
      raise ConfigError(
        f'dual_layers={tuple(self.dual_layers)} has {wrong[0]}, but the blocks '
        f'are 0 to {self.depth - 1}'
      )
    make = lambda features, axes, **more: denoiser.make_dense(
      features, axes, self.dtype, **more
    )
    self.embed_patches = make(self.width, (None, 'embed'))
    self.embed_time = mnn.NumberEmbedding(self.width, dtype=self.dtype)
    self.embed_pooled = mnn.Mlp(
      self.width, self.width, activation='silu', dtype=self.dtype
    )
    self.project_text = make(self.width, (None, 'embed'))
    if self.positions_grid:
      self.positions = self.param('positions', self._make_positions)
    self.blocks = [
      mnn.JointBlock(
        self.width,
        self.num_heads,
        self.mlp_dim,
        writes_context=i < self.depth - 1,
        dual=i in self.dual_layers,
        qk_norm=self.qk_norm,
        dtype=self.dtype,
      )
      for i in range(self.depth)
    ]
    self.norm = mnn.make_norm('layernorm', 1e-6, self.dtype, affine=False)
    self.modulate = mnn.Modulation(self.width, 2, self.dtype)
    outputs = self.out_channels or self.channels
    self.head = make(self.patch_size**2 * outputs, ('embed', None), zeros=True)

  def predict(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """All outputs [B, H, W, O] float32 about noisy images.

    Args:
      noisy: [B, H, W, C].
      times: [B], from 0, no noise, to 1.
      batch: `text` [B, T] with its mask; without a text encoder, vectors
        [B, T, E] and `text_pooled` [B, P].
      conditioned: [B], False where the text isn't used; None for all.
      train: whether dropout is on.

    Raises:
      ConfigError: if an image has more patches than the table of positions.
    """
    patches, grid = ops.cut_patches(noisy, self.patch_size)
    x = self.embed_patches(patches) + self._crop_positions(grid)[None]
    pooled, context = self._read_text(batch, conditioned, train)
    condition = self.embed_time(1000.0 * times)
    condition = (
      condition + self.embed_pooled(pooled[:, None], train=train)[:, 0]
    )
    body = remat_lib.rematerialise(
      lambda block, x, context: block(
        x, context, condition=condition, train=train
      ),
      self.remat,
      prevent_cse=True,
    )
    for block in self.blocks:
      x, context = body(block, x, context)
    shift, scale = self.modulate(condition)
    out = self.head(self.norm(x) * (1 + scale) + shift)
    outputs = self.out_channels or self.channels
    return ops.join_patches(out, grid, outputs).astype(jnp.float32)

  def _make_positions(self, key: Array | None = None) -> Array:
    """The table of positions [G * G, D]."""
    del key
    number = self.positions_grid
    base = self.base_grid or None
    return ops.sincos_grid(number, number, self.width, base=base)

  def _crop_positions(self, grid: tuple[int, int]) -> Array:
    """Positions [P, D] of an image's patches; they aren't trained."""
    base = self.base_grid or None
    if not self.positions_grid:
      table = ops.sincos_grid(*grid, self.width, base=base)
      return table.astype(self.dtype)
    most = self.positions_grid
    if max(grid) > most:
      raise ConfigError(
        f'an image of {grid[0]} x {grid[1]} patches is too large: the model '
        f'has positions for {most} x {most}; make it smaller'
      )
    top, left = ((most - length) // 2 for length in grid)
    table = self.positions.reshape(most, most, self.width)
    table = table[top : top + grid[0], left : left + grid[1]]
    table = table.reshape(-1, self.width).astype(self.dtype)
    return jax.lax.stop_gradient(table)

  def _read_text(
    self, batch: Batch, conditioned: Array | None, train: bool
  ) -> tuple[Array, mnn.Context]:
    """The text's summary [B, P], and its tokens [B, T, D]."""
    values, mask = batch['text'], batch.get('text_mask')
    if self.text is not None:
      tokens = self.text(values, mask, train=train)
      values, mask, pooled = tokens.values, tokens.mask, tokens.pooled
    else:
      pooled = batch['text_pooled']
    if conditioned is not None:
      everywhere = jnp.ones(values.shape[:2], bool) if mask is None else mask
      mask = everywhere & conditioned[:, None]
    if mask is not None:
      values = ops.zero_masked(values, mask)
      pooled = ops.zero_masked(pooled, mask.any(axis=1))
    return pooled, mnn.Context(self.project_text(values), mask)
