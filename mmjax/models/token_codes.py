"""The vectors of the tokens that a language model writes media with."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, Size


class TokenCodes(nn.Module):
  """From ids of tokens of images or sounds to vectors, and back to logits.

  The generation adaptor and head of Janus (Wu et al. 2024, section 3.1): a
  table of vectors and an MLP embed ids for the decoder, and another MLP makes
  logits.

  Attributes:
    width: number of features D of the decoder.
    mlp_dim: hidden size of both MLPs.
    size: number of tokens V, that of the autoencoder's codebook.
    token_dim: size of a token's vector before its MLP.
    activation: activation of the MLPs.
    dtype: dtype of the computation; parameters and logits are float32.
  """

  width: Size
  mlp_dim: Size
  size: Size
  token_dim: Size = 8
  activation: str = 'gelu'
  dtype: Any = jnp.float32

  def setup(self):
    self.table = nn.Embed(
      self.size,
      self.token_dim,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(1.0), (None, None)
      ),
      dtype=self.dtype,
    )
    mlp = lambda width: mnn.Mlp(
      width, self.mlp_dim, activation=self.activation, dtype=self.dtype
    )
    self.projector, self.head = mlp(self.width), mlp(self.size)

  def embed(self, ids: Array, *, train: bool = False) -> Array:
    """Vectors [B, N, D] of ids [B, N]."""
    return self.projector(self.table(ids), train=train)

  def logits(self, x: Array, *, train: bool = False) -> Array:
    """Logits [B, N, V] float32 of a decoder's features [B, N, D]."""
    return self.head(x, train=train).astype(jnp.float32)
