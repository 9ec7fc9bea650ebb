"""Token-level fusions into a fixed number of learned tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.fusion import modalities
from mmjax.types import Array, Size, TokenVectors


class _Summing(nn.Module):
  """A fixed number of tokens from the joint sequence of all modalities.

  A subclass defines `sum_up`. The result is real where an example has any
  modality.

  Attributes:
    width: D of the result.
    number: number of tokens Q of the result.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'

  width: Size
  number: Size = 8
  depth: Size = 2
  num_heads: Size = 4
  mlp_dim: Size = 512
  block: Mapping[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, Q, D]; pooled is their mean.

    Raises:
      ConfigError: if there is no modality.
    """
    joint = modalities.join(self, tokens, self.width, self.dtype)
    x = self.sum_up(joint.values, joint.mask, train=train)  # [B, Q, D]
    present = joint.mask.any(axis=1, keepdims=True)
    mask = jnp.broadcast_to(present, x.shape[:2])
    return TokenVectors(x, mask, ops.mean_tokens(x, mask))

  def sum_up(self, values: Array, mask: Array, *, train: bool) -> Array:
    """Sums up [B, N, D], mask [B, N], in [B, Q, D]."""
    raise NotImplementedError


class ResamplerFusion(_Summing):
  """Learned tokens attend to all modalities and themselves at once.

  `mmjax.nn.Resampler`, the Perceiver resampler of Flamingo (Alayrac et al.
  2022, figure 5), over the joint sequence.
  """

  def sum_up(self, values, mask, *, train):
    """Sums up [B, N, D], mask [B, N], in [B, Q, D]."""
    return mnn.Resampler(
      self.width,
      self.number,
      self.depth,
      self.num_heads,
      self.mlp_dim,
      block=self.block,
      dtype=self.dtype,
      name='resampler',
    )(values, mask, train=train)


class QueryTransformerFusion(_Summing):
  """Learned tokens attend to each other and, in turn, to all modalities.

  `mmjax.nn.QueryTransformer`, the Q-Former of BLIP-2 (Li et al. 2023, section
  3.1), over the joint sequence.

  Attributes:
    cross_every: n; every n-th block attends to the modalities, the first one
      among them.
  """

  cross_every: Size = 2

  def sum_up(self, values, mask, *, train):
    """Sums up [B, N, D], mask [B, N], in [B, Q, D]."""
    return mnn.QueryTransformer(
      self.number,
      self.width,
      self.depth,
      self.num_heads,
      self.mlp_dim,
      self.width,
      cross_every=self.cross_every,
      block=self.block,
      dtype=self.dtype,
      name='query_transformer',
    )(values, mask, train=train)
