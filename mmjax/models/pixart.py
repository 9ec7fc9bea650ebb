"""PixArt: a diffusion transformer with one modulation for all blocks."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.models import denoiser
from mmjax.types import Array, Batch, DropRate, Positive, Remat, Size


class PixArt(denoiser.Denoiser):
  """Predicts the noise in an image that a text describes.

  PixArt-alpha (Chen et al. 2024) and PixArt-sigma: the time makes the shifts,
  scales and gates of all blocks at once (adaLN-single), and blocks attend to
  the tokens of a text. An example without text attends to nothing.

  Attributes:
    width: number of features D, divisible by 4.
    depth: number of blocks.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    patch_size: side p of a patch in pixels.
    channels: number of channels C of images or latents.
    out_channels: number of outputs O a pixel, at least C; 0 for C.
    text: a text encoder, trained along; None where the batch's `text` are the
      vectors of one already, [B, T, E].
    projects_text: whether an MLP maps these vectors to D.
    base_grid: number of rows and columns of patches to which positions count;
      0 for those of the image.
    position_scale: divides positions.
    embeds_size: whether the original height and width of an image modulate
      too, `image_size` [B, 2] of the batch.
    feature: name of the array that is drawn.
    block: further settings of `mmjax.nn.Block`.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
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
  projects_text: bool = True
  base_grid: int = 0
  position_scale: Positive = 1.0
  embeds_size: bool = False
  feature: str = 'image'
  block: Mapping[str, Any] | None = None
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    make = lambda features, axes, **more: denoiser.make_dense(
      features, axes, self.dtype, **more
    )
    self.embed_patches = make(self.width, (None, 'embed'))
    self.embed_time = mnn.NumberEmbedding(self.width, dtype=self.dtype)
    if self.embeds_size:
      part = lambda: mnn.NumberEmbedding(self.width // 3, dtype=self.dtype)
      self.embed_size, self.embed_aspect = part(), part()
    self.modulate_blocks = make(6 * self.width, ('embed', 'mlp'), zeros=True)
    if self.projects_text:
      self.project_text = mnn.Mlp(
        self.width, self.width, activation='gelu_tanh', dtype=self.dtype
      )
    self.blocks = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={
        'activation': 'gelu_tanh',
        **(self.block or {}),
        'modulated': True,
        'shared_modulation': True,
        'cross_attention': True,
        'cross_attention_norm': False,
      },
      drop_path=self.drop_path,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
    )
    self.norm = mnn.make_norm('layernorm', 1e-6, self.dtype, affine=False)
    self.modulate = mnn.SharedModulation(self.width, 2, self.dtype)
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
      batch: `text` [B, T], or vectors [B, T, E] without a text encoder, with
        its mask; `image_size` [B, 2], height and width, with `embeds_size`.
      conditioned: [B], False where the text isn't used; None for all.
      train: whether dropout is on.
    """
    patches, grid = ops.cut_patches(noisy, self.patch_size)
    positions = ops.sincos_grid(
      *grid,
      self.width,
      base=self.base_grid or None,
      scale=self.position_scale,
    )
    x = self.embed_patches(patches) + positions.astype(self.dtype)[None]
    condition = self.embed_time(1000.0 * times)  # [B, D]
    if self.embeds_size:
      condition = condition + self._embed_size(batch['image_size'])
    x, _ = self.blocks(
      x,
      self._make_context(batch, conditioned, train),
      condition=self.modulate_blocks(jax.nn.silu(condition)),
      train=train,
    )
    shift, scale = self.modulate(jnp.tile(condition, (1, 2)))
    out = self.head(self.norm(x) * (1 + scale) + shift)
    outputs = self.out_channels or self.channels
    return ops.join_patches(out, grid, outputs).astype(jnp.float32)

  def _embed_size(self, sizes: Array) -> Array:
    """Vectors [B, D] of heights and widths [B, 2]: both, and their ratio."""
    sizes = sizes.astype(jnp.float32)
    parts = [
      self.embed_size(sizes[:, 0]),
      self.embed_size(sizes[:, 1]),
      self.embed_aspect(sizes[:, 0] / sizes[:, 1]),
    ]
    return jnp.concatenate(parts, axis=-1)

  def _make_context(
    self, batch: Batch, conditioned: Array | None, train: bool
  ) -> mnn.Context:
    """The tokens of the text [B, T, D or E]."""
    values, mask = batch['text'], batch.get('text_mask')
    if self.text is not None:
      tokens = self.text(values, mask, train=train)
      values, mask = tokens.values, tokens.mask
    if conditioned is not None:
      everywhere = jnp.ones(values.shape[:2], bool) if mask is None else mask
      mask = everywhere & conditioned[:, None]
    if mask is not None:
      values = ops.zero_masked(values, mask)
    if self.projects_text:
      values = self.project_text(values, train=train)
    return mnn.Context(values.astype(self.dtype), mask)
