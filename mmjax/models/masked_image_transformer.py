"""A transformer that predicts hidden tokens of images, and so draws them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.models.image_autoencoder import ImageAutoencoder
from mmjax.types import Array, Batch, DropRate, Outputs, Remat, Size


class MaskGit(nn.Module):
  """Predicts hidden tokens of an image from the others and from a text.

  MaskGIT (Chang et al. 2022), with a text that is attended to as in Muse (Chang
  et al. 2023, section 2.4), beside a learned vector that stands alone where
  there is no text. The autoencoder makes the tokens, and is not trained by the
  task: freeze its parameters.

  Attributes:
    width: number of features D, divisible by 4.
    depth: number of blocks.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    autoencoder: a trained `ImageAutoencoder` with tokens.
    text: a text encoder, trained along; None for no text.
    block: further settings of `mmjax.nn.Block`.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again: 'none', 'full' or 'dots'.
    dtype: dtype of the computation; parameters are float32.
  """

  # Its tokens mean nothing before it is trained.
  pretrained_parts: ClassVar[tuple[str, ...]] = ('autoencoder',)

  width: Size
  depth: Size
  num_heads: Size
  mlp_dim: Size
  autoencoder: ImageAutoencoder
  text: nn.Module | None = None
  block: Mapping[str, Any] | None = None
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  def setup(self):
    self.autoencoder.check_single_tokens()
    initial = nn.with_logical_partitioning(
      nn.initializers.normal(0.02), (None, 'embed')
    )
    # The last row stands for a hidden token.
    self.table = nn.Embed(
      self.autoencoder.codebook.size + 1,
      self.width,
      embedding_init=initial,
      dtype=self.dtype,
    )
    if self.text is not None:
      self.project_text = mnn.Linear(self.width, dtype=self.dtype)
      self.no_text = self.param(
        'no_text', initial, (1, self.width), jnp.float32
      )
    self.blocks = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={
        **(self.block or {}),
        'cross_attention': self.text is not None,
      },
      drop_path=self.drop_path,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
    )
    self.norm = mnn.make_norm('layernorm', 1e-6, self.dtype)
    self.head = mnn.Linear(self.autoencoder.codebook.size, dtype=self.dtype)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; objectives call `predict_tokens`.

    Args:
      batch: images [B, H, W, C], and what `predict_tokens` reads.
      train: whether dropout is on.
    """
    if self.is_initializing():
      self.autoencoder.reconstruct(batch)
      ids = self.encode_tokens(batch[self.autoencoder.feature])
      hidden = jnp.ones(ids.shape, bool)
      self.predict_tokens(ids, hidden, batch, train=train)
    return {}

  def encode_tokens(self, images: Array) -> Array:
    """Token ids [B, h, w] int32 of images [B, H, W, C], without gradient."""
    return self.autoencoder.encode_tokens(jax.lax.stop_gradient(images))

  def decode_tokens(self, ids: Array) -> Array:
    """Images [B, H, W, C] of token ids [B, h, w]."""
    return self.autoencoder.decode_tokens(ids)

  def predict_tokens(
    self,
    ids: Array,
    hidden: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """Logits [B, h, w, V] float32 of all tokens.

    Args:
      ids: [B, h, w]; what it has where tokens are hidden is of no meaning.
      hidden: bool [B, h, w].
      batch: `text` [B, T] with its mask, if the model has a text encoder; a
        text of which nothing is real counts as none.
      conditioned: [B], False where the text is not used; None for all.
      train: whether dropout is on.
    """
    if conditioned is None:
      conditioned = jnp.ones(len(ids), bool)
    grid = ids.shape[1:]
    known = jnp.where(hidden, self.autoencoder.codebook.size, ids)
    x = einops.rearrange(self.table(known), 'b h w d -> b (h w) d')
    x = x + ops.sincos_2d(*grid, self.width).astype(self.dtype)[None]
    context = None
    if self.text is not None:
      context = self._embed_text(batch, conditioned, train)
    x, _ = self.blocks(x, context, train=train)
    logits = self.head(self.norm(x), train=train)
    return logits.reshape(*ids.shape, -1).astype(jnp.float32)

  def _embed_text(
    self, batch: Batch, conditioned: Array, train: bool
  ) -> mnn.Context:
    """What is attended to [B, 1 + T, D]."""
    tokens = self.text(batch['text'], batch.get('text_mask'), train=train)
    used = tokens.mask & conditioned[:, None]
    values = self.project_text(tokens.values, train=train)
    no_text = self.no_text.astype(self.dtype)[None]
    first = jnp.broadcast_to(no_text, (len(values), 1, self.width))
    return mnn.Context(
      jnp.concatenate([first, ops.zero_masked(values, used)], axis=1),
      jnp.pad(used, ((0, 0), (1, 0)), constant_values=True),
    )
