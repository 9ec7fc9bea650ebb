"""Token-level fusions that put other modalities into one modality's tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.fusion import modalities
from mmjax.types import Array, Size, TokenVectors


class GatedCrossAttention(nn.Module):
  """Cross-attention layers that start closed, between blocks.

  Flamingo's gated cross-attention dense layers (Alayrac et al. 2022, figure 4):
  x + tanh(a) attention(x, others), then x + tanh(b) mlp(x), with a and b from
  0; then a block of self-attention. At the start the result is that of the
  querying modality alone.

  Attributes:
    query: name of the querying modality.
    width: D of the result.
    depth: number of gated layers, each with a block behind it.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    pooling: 'mean', 'first' or 'last' of the querying modality's tokens.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'

  query: str
  width: Size
  depth: Size = 2
  num_heads: Size = 4
  mlp_dim: Size = 512
  pooling: str = 'mean'
  block: Mapping[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N_query, D].

    Raises:
      ConfigError: if the querying modality, or any other, is missing.
    """
    query, others = modalities.split_query(
      tokens, self.query, 'gated cross-attention'
    )
    x = modalities.make_projection(self.width, self.dtype, 'query_projection')(
      ops.zero_masked(query.values, query.mask)
    )
    context = modalities.join(self, others, self.width, self.dtype)
    # Where nothing else is present, not even biases get through the gates.
    has_context = context.mask.any(axis=1)
    for i in range(self.depth):
      crossed = self._add_gated(x, context, i, train=train)
      x = jnp.where(has_context[:, None, None], crossed, x)
      x, _ = mnn.Block(
        self.width,
        self.num_heads,
        self.mlp_dim,
        **(self.block or {}),
        dtype=self.dtype,
        name=f'layers_{i}',
      )(x, visible=mnn.Visible(query.mask[:, None]), train=train)
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    return TokenVectors(x, query.mask, mnn.pool(self.pooling, x, query.mask))

  def _add_gated(
    self, x: Array, context: TokenVectors, index: int, *, train: bool
  ) -> Array:
    """Adds gated cross-attention and a gated MLP to [B, N, D]."""
    y = self._normalise(f'cross_norm_{index}', x)
    y, _ = mnn.Attention(
      self.width,
      self.num_heads,
      cross=True,
      dtype=self.dtype,
      name=f'cross_attention_{index}',
    )(y, context.values, mnn.Visible(context.mask[:, None]), train=train)
    x = x + self._make_gate(f'cross_gate_{index}') * y
    y = self._normalise(f'cross_mlp_norm_{index}', x)
    y = mnn.Mlp(
      self.width, self.mlp_dim, dtype=self.dtype, name=f'cross_mlp_{index}'
    )(y, train=train)
    return x + self._make_gate(f'cross_mlp_gate_{index}') * y

  def _normalise(self, name: str, x: Array) -> Array:
    return mnn.make_norm('layernorm', 1e-6, self.dtype, name=name)(x)

  def _make_gate(self, name: str) -> Array:
    """The tanh of a learned number, from 0 at the start."""
    gate = self.param(
      name,
      nn.with_logical_partitioning(nn.initializers.zeros, ()),
      (),
      jnp.float32,
    )
    return jnp.tanh(gate).astype(self.dtype)

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """0 for the querying modality, whose tokens are the result; else None."""
    del lengths
    return 0 if name == self.query else None


class SoftPrefix(nn.Module):
  """Turns other modalities into a few tokens in front of one modality's.

  Each other modality's pooled vector becomes `number` tokens by one dense layer
  (Frozen, Tsimpoukelli et al. 2021, section 3.1; ClipCap, Mokady et al. 2021).
  For a decoder or blocks behind it: the tokens themselves don't attend here.

  Attributes:
    query: name of the modality that gets the prefix.
    width: D of the result.
    number: number of tokens of each other modality.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'

  query: str
  width: Size
  number: Size = 4
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: values [B, number * (m - 1) + N_query, D]; pooled is the
      mean of the real ones.

    Raises:
      ConfigError: if the modality, or any other, is missing.
    """
    del train
    query, others = modalities.split_query(tokens, self.query, 'soft prefix')
    pooled = modalities.get_summaries(others)
    values, masks = [], []
    for name in sorted(others):
      prefix = modalities.make_projection(
        self.number * self.width, self.dtype, f'{name}_prefix'
      )(pooled[name])
      values.append(einops.rearrange(prefix, 'b (n d) -> b n d', n=self.number))
      present = modalities.is_present(others[name])[:, None]
      masks.append(jnp.broadcast_to(present, values[-1].shape[:2]))
    x = modalities.make_projection(self.width, self.dtype, 'query_projection')(
      ops.zero_masked(query.values, query.mask)
    )
    mask = jnp.concatenate([*masks, query.mask], axis=1)
    x = ops.zero_masked(jnp.concatenate([*values, x], axis=1), mask)
    return TokenVectors(x, mask, ops.mean_tokens(x, mask))

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """Where the tokens of the modality with the prefix begin; else None."""
    return self.number * (len(lengths) - 1) if name == self.query else None
