"""A transformer that takes noise out of images, and so draws them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.models import denoiser
from mmjax.types import Array, Batch, DropRate, Remat, Size


class ConditionEmbedding(nn.Module):
  """The sum of the vectors of a time and of a class.

  Attributes:
    width: number of features D.
    num_classes: number of classes C; 0 for none.
    inclusive: whether the frequencies of the time end at 1 / 10,000.
    dtype: dtype of the computation.
  """

  width: Size
  num_classes: int = 0
  inclusive: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, times: Array, label: Array | None) -> Array:
    """Maps times [B] in [0, 1] and labels [B], C for no class, to [B, D]."""
    out = mnn.NumberEmbedding(
      self.width, inclusive=self.inclusive, dtype=self.dtype, name='time'
    )(1000.0 * times)
    if label is None:
      return out
    return out + nn.Embed(
      self.num_classes + 1,
      self.width,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      dtype=self.dtype,
      name='classes',
    )(label)


class DiT(denoiser.Denoiser):
  """Predicts the noise in an image, or its velocity, from its patches.

  DiT (Peebles and Xie 2023) with adaLN-zero: the time, and what is to be drawn,
  modulate every block. A text is also attended to by cross-attention, beside a
  learned vector that stands alone where there is no text; its pooled vector
  modulates. Works on any arrays [B, H, W, C], images or latents.

  Attributes:
    width: number of features D, divisible by 4.
    depth: number of blocks.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    patch_size: side p of a patch in pixels.
    channels: number of channels C of images or latents.
    out_channels: number of outputs O a pixel, at least C; 0 for C.
    text: a text encoder, trained along; None for no text.
    class_field: feature of the class to draw; '' for none.
    num_classes: number of its classes, with `class_field`.
    embedding_feature: vector [B, E] of what to draw; '' for none. It modulates,
      and blocks attend to `embedding_tokens` linear maps of it (DALL-E 2,
      Ramesh et al. 2022, section 2.1).
    embedding_tokens: number of these.
    feature: name of the array that is drawn.
    block: further settings of `mmjax.nn.Block`.
    condition_per_block: whether each block embeds time and class by layers of
      its own, and the output by those of the first; and the frequencies of the
      time end at 1 / 10,000 (as published by diffusers).
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
  out_channels: int = 0
  text: nn.Module | None = None
  class_field: str = ''
  num_classes: int = 0
  embedding_feature: str = ''
  embedding_tokens: Size = 4
  feature: str = 'image'
  block: Mapping[str, Any] | None = None
  condition_per_block: bool = False
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
    dense = lambda features, axes, **more: denoiser.make_dense(
      features, axes, self.dtype, **more
    )
    self.embed_patches = dense(self.width, (None, 'embed'))
    embed = ConditionEmbedding
    if self.condition_per_block:
      embed = nn.vmap(
        ConditionEmbedding,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=None,
        axis_size=self.depth,
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )
    self.embed_condition = embed(
      self.width, self.num_classes, self.condition_per_block, self.dtype
    )
    if self.embedding_feature:
      self.project_embedding = dense(self.width, (None, 'embed'))
      self.embedding_context = dense(
        self.embedding_tokens * self.width, (None, 'embed')
      )
    if self.text is not None:
      self.project_text = dense(self.width, ('embed', None))
      self.project_pooled = dense(self.width, ('embed', None))
    if self.text is not None or self.embedding_feature:
      initial = nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      )
      shape = (2, self.width)
      # Rows: what modulates without a text, and what is always attended to.
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
        'cross_attention': self._has_context,
      },
      drop_path=self.drop_path,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
    )
    self.norm = mnn.make_norm('layernorm', 1e-6, self.dtype, affine=False)
    self.modulate = mnn.Modulation(self.width, 2, self.dtype)
    outputs = self.out_channels or self.channels
    self.head = dense(self.patch_size**2 * outputs, ('embed', None), zeros=True)

  @property
  def _has_context(self) -> bool:
    return self.text is not None or bool(self.embedding_feature)

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
      batch: `text` [B, T] with its mask, the class [B] or the embedding [B, E];
        a text of which nothing is real counts as none.
      conditioned: [B], False where none is used; None for all.
      train: whether dropout is on.
    """
    if conditioned is None:
      conditioned = jnp.ones(len(noisy), bool)
    patches, grid = ops.cut_patches(noisy, self.patch_size)
    x = self.embed_patches(patches)  # [B, P, D]
    x = x + ops.sincos_grid(*grid, self.width).astype(self.dtype)[None]
    label = self._find_label(batch, conditioned)
    condition = self.embed_condition(times, label)  # [B, D] or [L, B, D]
    contexts = []
    if self.embedding_feature:
      vector, context = self._embed_vector(batch, conditioned)
      condition = condition + vector
      contexts.append(context)
    if self.text is not None:
      pooled, context = self._embed_text(batch, conditioned, train)
      condition = condition + pooled
      contexts.append(context)
    joined = _join(contexts, self.no_text) if contexts else None
    x, _ = self.blocks(x, joined, condition=condition, train=train)
    last = condition[0] if self.condition_per_block else condition
    shift, scale = self.modulate(last)
    out = self.head(self.norm(x) * (1 + scale) + shift)
    outputs = self.out_channels or self.channels
    return ops.join_patches(out, grid, outputs).astype(jnp.float32)

  def _find_label(self, batch: Batch, conditioned: Array) -> Array | None:
    """The class of each example [B], `num_classes` where none is used."""
    if not self.class_field:
      return None
    mask = batch.get(f'{self.class_field}_mask')
    known = conditioned if mask is None else conditioned & mask
    return jnp.where(known, batch[self.class_field], self.num_classes)

  def _embed_vector(
    self, batch: Batch, conditioned: Array
  ) -> tuple[Array, mnn.Context]:
    """What modulates [B, D], and what is attended to [B, n, D]."""
    vector = batch[self.embedding_feature]
    mask = batch.get(f'{self.embedding_feature}_mask')
    used = conditioned if mask is None else conditioned & mask
    # Of unit length; the layers are made for numbers of about 1.
    vector = ops.zero_masked(vector, used) * vector.shape[-1] ** 0.5
    modulating = jnp.where(
      used[:, None], self.project_embedding(vector), self.no_text[:1]
    )
    shape = (len(vector), self.embedding_tokens, self.width)
    values = self.embedding_context(vector).reshape(shape)
    mask = jnp.broadcast_to(used[:, None], shape[:2])
    return modulating.astype(self.dtype), mnn.Context(values, mask)

  def _embed_text(
    self, batch: Batch, conditioned: Array, train: bool
  ) -> tuple[Array, mnn.Context]:
    """What modulates [B, D], and what is attended to [B, T, D]."""
    tokens = self.text(batch['text'], batch.get('text_mask'), train=train)
    used = tokens.mask & conditioned[:, None]
    pooled = jnp.where(
      used.any(axis=1)[:, None],
      self.project_pooled(tokens.pooled),
      self.no_text[:1].astype(self.dtype),
    )
    values = ops.zero_masked(self.project_text(tokens.values), used)
    return pooled, mnn.Context(values, used)


def _join(contexts: list[mnn.Context], no_text: Array) -> mnn.Context:
  """All that is attended to, behind the vector that is always there."""
  batch, _, width = contexts[0].values.shape
  dtype = contexts[0].values.dtype
  first = jnp.broadcast_to(no_text[1].astype(dtype), (batch, 1, width))
  return mnn.Context(
    jnp.concatenate([first, *(c.values for c in contexts)], axis=1),
    jnp.concatenate(
      [jnp.ones((batch, 1), bool), *(c.mask for c in contexts)], axis=1
    ),
  )
