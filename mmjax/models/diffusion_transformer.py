"""A transformer that takes noise out of images, and so draws them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, DropRate, Outputs, Remat, Size

# Number of sines and cosines of a time.
_TIME_FEATURES = 256


class TimeEmbedding(nn.Module):
  """Vectors of times: sines and cosines, then two dense layers.

  As in DiT (Peebles and Xie 2023, in their code): times count up to 1000, and
  cosines come first.

  Attributes:
    width: number of features D.
    dtype: dtype of the computation.
  """

  width: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, times: Array) -> Array:
    """Maps times [B] in [0, 1] to [B, D]."""
    half = _TIME_FEATURES // 2
    frequencies = 10_000.0 ** (-jnp.arange(half) / half)
    angles = 1000.0 * times[:, None] * frequencies[None]
    x = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    hidden = _make_dense(self.width, (None, 'mlp'), self.dtype, 'up')(x)
    return _make_dense(self.width, ('mlp', 'embed'), self.dtype, 'down')(
      jax.nn.silu(hidden)
    )


class DiT(nn.Module):
  """Predicts the noise in an image, or its velocity, from its patches.

  DiT (Peebles and Xie 2023) with adaLN-zero: the time, and what is to be drawn,
  modulate every block. A text is also attended to by cross-attention, as in
  PixArt-alpha (Chen et al. 2024, section 2.3), beside a learned vector that
  stands alone where there is no text; its pooled vector modulates. Works on any
  arrays [B, H, W, C], images or latents.

  Attributes:
    width: number of features D, divisible by 4.
    depth: number of blocks.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    patch_size: side p of a patch in pixels.
    channels: number of channels C of images or latents.
    text: a text encoder, trained along; None for no text.
    class_field: feature of the class to draw; '' for none.
    num_classes: number of its classes, with `class_field`.
    field: name of the array that is drawn.
    block: further settings of `mmjax.nn.Block`.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: Size
  num_heads: Size
  mlp_dim: Size
  patch_size: Size
  channels: Size = 3
  text: nn.Module | None = None
  class_field: str = ''
  num_classes: int = 0
  field: str = 'image'
  block: Mapping[str, Any] | None = None
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    if bool(self.class_field) != bool(self.num_classes):
      raise ConfigError(
        f'model.class_field={self.class_field!r} and model.num_classes='
        f'{self.num_classes} go together; set both or neither'
      )
    dense = lambda features, axes: _make_dense(features, axes, self.dtype)
    self.embed_patches = dense(self.width, (None, 'embed'))
    self.embed_time = TimeEmbedding(self.width, self.dtype)
    if self.class_field:
      # The last row stands for no class.
      self.classes = nn.Embed(
        self.num_classes + 1,
        self.width,
        embedding_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), (None, 'embed')
        ),
        dtype=self.dtype,
      )
    if self.text is not None:
      self.project_text = dense(self.width, ('embed', None))
      self.project_pooled = dense(self.width, ('embed', None))
      initial = nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      )
      shape = (2, self.width)
      self.no_text = self.param('no_text', initial, shape, jnp.float32)
    self.blocks = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={
        'activation': 'gelu_tanh',
        **(self.block or {}),
        'modulated': True,
        'cross_attention': self.text is not None,
      },
      drop_path=self.drop_path,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
    )
    self.norm = mnn.make_norm('layernorm', 1e-6, self.dtype, affine=False)
    self.modulate = mnn.Modulation(self.width, 2, self.dtype)
    self.head = mnn.Dense(
      self.patch_size**2 * self.channels,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.zeros, ('embed', None)
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      dtype=self.dtype,
    )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; there are no outputs without noise.

    Objectives call `denoise` with noisy images of their own.

    Args:
      batch: the array to draw [B, H, W, C], and what `denoise` reads.
      train: whether dropout is on.
    """
    if self.is_initializing():
      drawn = batch[self.field]
      self.denoise(drawn, jnp.zeros(len(drawn)), batch, train=train)
    return {}

  def denoise(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """The prediction [B, H, W, C] float32 about noisy images.

    Args:
      noisy: [B, H, W, C].
      times: [B], from 0, no noise, to 1.
      batch: `text` [B, T] with its mask, or the class [B]; a text of which
        nothing is real counts as none.
      conditioned: [B], False where neither is used; None for all.
      train: whether dropout is on.
    """
    if conditioned is None:
      conditioned = jnp.ones(len(noisy), bool)
    patches, grid = ops.cut_patches(noisy, self.patch_size)
    x = self.embed_patches(patches)  # [B, P, D]
    x = x + ops.sincos_2d(*grid, self.width).astype(self.dtype)[None]
    condition, context = self.embed_time(times), None
    if self.class_field:
      absent = batch.get(f'{self.class_field}_mask')
      known = conditioned if absent is None else conditioned & absent
      label = jnp.where(known, batch[self.class_field], self.num_classes)
      condition = condition + self.classes(label)
    if self.text is not None:
      pooled, context = self._embed_text(batch, conditioned, train)
      condition = condition + pooled
    x, _ = self.blocks(x, context, condition=condition, train=train)
    shift, scale = self.modulate(condition)
    out = self.head(self.norm(x) * (1 + scale) + shift)
    return ops.join_patches(out, grid, self.channels).astype(jnp.float32)

  def _embed_text(
    self, batch: Batch, conditioned: Array, train: bool
  ) -> tuple[Array, mnn.Context]:
    """What modulates [B, D], and what is attended to [B, 1 + T, D]."""
    tokens = self.text(batch['text'], batch.get('text_mask'), train=train)
    used = tokens.mask & conditioned[:, None]
    no_pooled, no_token = self.no_text.astype(self.dtype)
    pooled = jnp.where(
      used.any(axis=1)[:, None],
      self.project_pooled(tokens.pooled),
      no_pooled[None],
    )
    values = ops.zero_masked(self.project_text(tokens.values), used)
    first = jnp.broadcast_to(no_token, (len(values), 1, self.width))
    return pooled, mnn.Context(
      jnp.concatenate([first, values], axis=1),
      jnp.pad(used, ((0, 0), (1, 0)), constant_values=True),
    )


def _make_dense(
  features: int,
  axes: tuple[str | None, str | None],
  dtype: Any,
  name: str | None = None,
) -> mnn.Dense:
  return mnn.Dense(
    features,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), axes
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[1:]),
    dtype=dtype,
    name=name,
  )
