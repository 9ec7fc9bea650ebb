"""The prior of DALL-E 2: from a text to the embedding of an image."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.models import denoiser
from mmjax.types import Array, Batch, Positive, Size


class Prior(nn.Module):
  """Predicts an image's embedding from a noisy one and from the text.

  The diffusion prior of DALL-E 2 (Ramesh et al. 2022, section 2.2): a causal
  transformer over the text's tokens, its embedding, the time, the noisy image
  embedding and a learned token, whose output is the prediction.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads.
    mlp_dim: hidden size of the MLPs.
    embed_dim: size of embeddings of images E.
    max_length: largest number of the text's tokens T.
    time_hidden: hidden size of the layers that embed the time; 0 for D.
    norm_text: whether the text's embedding is normalised first.
    norm_tokens: whether the tokens are, before the first block.
    norm_epsilon: added to the variance.
    block: further settings of `mmjax.nn.Block`.
    scan: whether to scan over layers.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: Size
  num_heads: Size
  mlp_dim: Size
  embed_dim: Size
  max_length: Size
  time_hidden: int = 0
  norm_text: bool = False
  norm_tokens: bool = False
  norm_epsilon: Positive = 1e-5
  block: Mapping[str, Any] | None = None
  scan: bool = True
  dtype: Any = jnp.float32

  def setup(self):
    make = lambda features: denoiser.make_dense(
      features, (None, 'embed'), self.dtype
    )
    norm = lambda: mnn.make_norm('layernorm', self.norm_epsilon, self.dtype)
    self.embed_time = mnn.NumberEmbedding(
      self.width,
      hidden=self.time_hidden or None,
      features=self.width,
      dtype=self.dtype,
    )
    self.project_image = make(self.width)
    self.project_text = make(self.width)
    self.project_tokens = make(self.width)
    self.text_norm = norm() if self.norm_text else None
    self.tokens_norm = norm() if self.norm_tokens else None
    table = lambda *shape: (
      nn.with_logical_partitioning(
        nn.initializers.normal(0.01), (None, 'embed')
      ),
      shape,
      jnp.float32,
    )
    self.positions = self.param(
      'positions', *table(self.max_length + 4, self.width)
    )
    self.last_token = self.param('last_token', *table(1, self.width))
    self.blocks = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={'norm_epsilon': self.norm_epsilon, **(self.block or {})},
      scan=self.scan,
      dtype=self.dtype,
    )
    self.last_norm = norm()
    self.head = make(self.embed_dim)
    constant = nn.initializers.constant
    shape = (self.embed_dim,)
    self.mean = self.param('mean', constant(0.0), shape)
    # That of unit vectors in random directions.
    self.std = self.param('std', constant(self.embed_dim**-0.5), shape)

  def __call__(
    self,
    batch: Batch,
    *,
    train: bool = False,
  ) -> Array:
    """The image embedding [B, E] float32, scaled as by `normalise`.

    Args:
      batch: `noisy`, image embeddings [B, E], scaled as by `normalise`;
        `times` [B], from 0, no noise, to 1; `tokens` of the text as its encoder
        makes them [B, T, W] and their mask `tokens_mask` [B, T];
        `text_embedding` [B, F].
      train: whether dropout is on.

    Raises:
      ConfigError: if there are more tokens than `max_length`.
    """
    noisy, text = batch['noisy'], batch['text_embedding']
    tokens, mask = batch['tokens'], batch['tokens_mask']
    length = tokens.shape[1]
    if length > self.max_length:
      raise ConfigError(
        f'a text has {length} tokens, but the prior reads {self.max_length}; '
        'shorten it, or train with a larger max_length'
      )
    if self.text_norm is not None:
      text = self.text_norm(text)
    last = jnp.broadcast_to(
      self.last_token.astype(self.dtype), (len(noisy), 1, self.width)
    )
    x = jnp.concatenate(
      [
        self.project_tokens(ops.zero_masked(tokens, mask)),
        self.project_text(text)[:, None],
        self.embed_time(1000.0 * batch['times'])[:, None],
        self.project_image(noisy)[:, None],
        last,
      ],
      axis=1,
    )  # [B, T + 4, D]
    # The four stand at the last positions, however long the texts are.
    positions = jnp.concatenate([self.positions[:length], self.positions[-4:]])
    x = x + positions.astype(self.dtype)[None]
    if self.tokens_norm is not None:
      x = self.tokens_norm(x)
    seen = jnp.pad(mask, ((0, 0), (0, 4)), constant_values=True)
    visible = mnn.Visible(seen[:, None], causal=True)
    x, _ = self.blocks(x, visible=visible, train=train)
    return self.head(self.last_norm(x[:, -1])).astype(jnp.float32)

  def normalise(self, embeddings: Array) -> Array:
    """Scales image embeddings [B, E] to about N(0, 1)."""
    mean, std = map(jax.lax.stop_gradient, (self.mean, self.std))
    return (embeddings - mean[None]) / std[None]

  def denormalise(self, scaled: Array) -> Array:
    """The inverse of `normalise`."""
    mean, std = map(jax.lax.stop_gradient, (self.mean, self.std))
    return scaled * std[None] + mean[None]
