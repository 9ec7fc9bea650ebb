"""Mixing several modalities' tokens into one sequence."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import check_choice
from mmjax.fusion import modalities
from mmjax.types import Array, Size, TokenVectors

GATES = ('softmax', 'scalar', 'sigmoid')


class Concat(nn.Module):
  """Puts all tokens in one sequence; its blocks let them attend to each other.

  Each modality is projected to `width` and marked with a learned vector, as in
  VisualBERT and ViLT (Kim et al. 2021, equation 1).

  Attributes:
    width: D of the result.
    depth: number of blocks over the joint sequence; 0 for none.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    scan: whether to scan over layers.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'

  width: Size
  depth: int = 0
  num_heads: Size = 4
  mlp_dim: Size = 512
  block: Mapping[str, Any] | None = None
  scan: bool = True
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
      TokenVectors: values [B, sum of N_m, D]; pooled is the mean of real
      tokens.

    Raises:
      ConfigError: if there is no modality.
    """
    joint = modalities.join(self, tokens, self.width, self.dtype)
    x, _ = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block=self.block,
      scan=self.scan,
      dtype=self.dtype,
      name='blocks',
    )(joint.values, visible=mnn.Visible.of_keys(joint.mask), train=train)
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    return TokenVectors(x, joint.mask, ops.mean_tokens(x, joint.mask))

  locate = staticmethod(modalities.locate)


class CrossAttention(nn.Module):
  """One modality queries the others.

  Blocks of self-attention over the querying modality and cross-attention to the
  others' tokens, as the co-attention of LXMERT and ViLBERT, one way (Lu et al.
  2019, figure 2b). An example whose other modalities are all absent adds
  nothing that depends on their values.

  Attributes:
    query: name of the querying modality.
    width: D of the result.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    pooling: 'mean', 'first' or 'last' of the querying modality's tokens.
    block: further settings of `mmjax.nn.Block`.
    scan: whether to scan over layers.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'

  query: str
  width: Size
  depth: int = 2
  num_heads: Size = 4
  mlp_dim: Size = 512
  pooling: str = 'mean'
  block: Mapping[str, Any] | None = None
  scan: bool = True
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
      tokens, self.query, 'cross-attention'
    )
    x = modalities.make_projection(self.width, self.dtype, 'query_projection')(
      ops.zero_masked(query.values, query.mask)
    )
    context = modalities.join(self, others, self.width, self.dtype)
    x, _ = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={**(self.block or {}), 'cross_attention': True},
      scan=self.scan,
      dtype=self.dtype,
      name='blocks',
    )(
      x,
      mnn.Context(context.values, context.mask),
      mnn.Visible(query.mask[:, None]),
      train=train,
    )
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    return TokenVectors(x, query.mask, mnn.pool(self.pooling, x, query.mask))

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """0 for the querying modality, whose tokens are the result; else None."""
    del lengths
    return 0 if name == self.query else None


class Gated(nn.Module):
  """Weights modalities against each other, feature by feature.

  The gated multimodal unit (Arevalo et al. 2017): each modality's pooled vector
  is projected, and gates computed from all of them mix the projections. With
  `gates='softmax'` they add up to 1 in each feature; of two modalities this is
  the bimodal unit (equations 4 to 7, since a softmax over two is a sigmoid and
  its complement). 'sigmoid' has independent gates (figure 2a), and 'scalar' one
  gate a modality for all features. The tokens are scaled by the same gates and
  joined. An absent modality has a gate of exactly 0.

  Attributes:
    width: D of the result.
    gates: 'softmax', 'scalar' or 'sigmoid'.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'feature'

  width: Size
  gates: str = 'softmax'
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
      TokenVectors: values [B, sum of N_m, D].

    Raises:
      ConfigError: if there is no modality, or `gates` is unknown.
    """
    del train
    check_choice(self.gates, GATES, 'gates')
    names = modalities.sort_names(tokens)
    pooled = modalities.get_summaries(tokens)
    present = modalities.stack_presence(tokens, names)  # [B, m]
    gates = self._compute_gates([pooled[n] for n in names], present)
    self.sow('intermediates', 'gates', gates)
    projected = jnp.stack(
      [
        jnp.tanh(
          modalities.make_projection(self.width, self.dtype, f'{n}_pooled')(
            pooled[n]
          )
        )
        for n in names
      ],
      axis=1,
    )  # [B, m, D]
    joint = modalities.join(self, tokens, self.width, self.dtype)
    lengths = [tokens[n].mask.shape[1] for n in names]
    scale = jnp.concatenate(
      [
        jnp.repeat(gates[:, i, None], length, axis=1)
        for i, length in enumerate(lengths)
      ],
      axis=1,
    )  # [B, sum of N_m, D]
    values = joint.values * scale
    return TokenVectors(values, joint.mask, jnp.sum(gates * projected, axis=1))

  def _compute_gates(self, pooled: Sequence[Array], present: Array) -> Array:
    """Gates [B, m, D] from all summaries; 0 of an absent modality."""
    number = len(pooled)
    size = 1 if self.gates == 'scalar' else self.width
    logits = nn.DenseGeneral((number, size), dtype=self.dtype, name='gate')(
      jnp.concatenate(pooled, axis=-1)
    ).astype(jnp.float32)
    logits = jnp.broadcast_to(logits, (len(logits), number, self.width))
    real = present[:, :, None]
    if self.gates == 'sigmoid':
      gates = jax.nn.sigmoid(logits)
    else:
      lowest = jnp.finfo(jnp.float32).min
      gates = jax.nn.softmax(jnp.where(real, logits, lowest), axis=1)
    return jnp.where(real, gates, 0.0).astype(self.dtype)
