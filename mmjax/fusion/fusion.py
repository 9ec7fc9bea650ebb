"""Mixing several modalities' tokens into one sequence."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array, Size, Tokens


class Concat(nn.Module):
  """Puts all tokens in one sequence and lets them attend to each other.

  Each modality is projected to `width` and marked with a learned vector, as in
  VisualBERT and ViLT (Kim et al. 2021, equation 1).

  Attributes:
    width: D of the result.
    depth: number of blocks over the joint sequence; 0 for none.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    scan: whether to scan over layers.
    dtype: of the computation.
  """

  width: Size
  depth: int = 0
  num_heads: Size = 4
  mlp_dim: Size = 512
  block: Mapping[str, Any] | None = None
  scan: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: whether dropout is on.

    Returns:
      Tokens: values [B, sum of N_m, D]; pooled is the mean of real tokens.

    Raises:
      ConfigError: if there is no modality.
    """
    joint = _join(self, tokens, self.width, self.dtype)
    x, _ = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block=self.block,
      scan=self.scan,
      dtype=self.dtype,
      name='blocks',
    )(joint.values, visible=mnn.Visible(joint.mask[:, None]), train=train)
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    return Tokens(x, joint.mask, ops.mean_tokens(x, joint.mask))

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """Index of a modality's first token in the result, None without one.

    Args:
      lengths: number of tokens by modality.
      name: the modality.
    """
    if name not in lengths:
      return None
    return sum(lengths[other] for other in sorted(lengths) if other < name)


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
    dtype: of the computation.
  """

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
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses modalities.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: whether dropout is on.

    Returns:
      Tokens: values [B, N_query, D].

    Raises:
      ConfigError: if the querying modality, or any other, is missing.
    """
    others = {name: t for name, t in tokens.items() if name != self.query}
    if self.query not in tokens or not others:
      raise ConfigError(
        f'cross-attention needs {self.query!r} and another modality, got '
        f'{sorted(tokens)}; pass an absent one with a mask that is all False'
      )
    query = tokens[self.query]
    x = _make_projection(self.width, self.dtype, 'query_projection')(
      _zero_absent(query)
    )
    context = _join(self, others, self.width, self.dtype)
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
    return Tokens(x, query.mask, mnn.pool(self.pooling, x, query.mask))

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """0 for the querying modality, whose tokens are the result; else None."""
    del lengths
    return 0 if name == self.query else None


class Gated(nn.Module):
  """Weights modalities against each other, feature by feature.

  The gated multimodal unit (Arevalo et al. 2017, equations 4 to 7, with a
  softmax over modalities in place of independent gates): each modality's pooled
  vector is projected, and gates computed from all of them mix the projections.
  The tokens are scaled by the same gates and joined. An absent modality has a
  gate of exactly 0.

  Attributes:
    width: D of the result.
    dtype: of the computation.
  """

  width: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: unused, as there is no dropout.

    Returns:
      Tokens: values [B, sum of N_m, D].

    Raises:
      ConfigError: if there is no modality.
    """
    del train
    names = _sort_names(tokens)
    present = jnp.stack(
      [tokens[n].mask.any(axis=1) for n in names], axis=1
    )  # [B, m]
    pooled = [
      jnp.where(present[:, i, None], tokens[n].pooled, 0)
      for i, n in enumerate(names)
    ]
    everything = jnp.concatenate(pooled, axis=-1)  # [B, sum of D_m]
    logits = nn.DenseGeneral(
      (len(names), self.width), dtype=self.dtype, name='gate'
    )(everything).astype(jnp.float32)  # [B, m, D]
    real = present[:, :, None]
    logits = jnp.where(real, logits, jnp.finfo(jnp.float32).min)
    gates = jnp.where(real, jax.nn.softmax(logits, axis=1), 0.0)
    gates = gates.astype(self.dtype)
    self.sow('intermediates', 'gates', gates)
    projected = jnp.stack(
      [
        jnp.tanh(
          _make_projection(self.width, self.dtype, f'{n}_pooled')(pooled[i])
        )
        for i, n in enumerate(names)
      ],
      axis=1,
    )  # [B, m, D]
    joint = _join(self, tokens, self.width, self.dtype)
    lengths = [tokens[n].mask.shape[1] for n in names]
    scale = jnp.concatenate(
      [
        jnp.repeat(gates[:, i, None], length, axis=1)
        for i, length in enumerate(lengths)
      ],
      axis=1,
    )  # [B, sum of N_m, D]
    values = joint.values * scale
    return Tokens(values, joint.mask, jnp.sum(gates * projected, axis=1))


def _sort_names(tokens: Mapping[str, Tokens]) -> list[str]:
  if not tokens:
    raise ConfigError('fusion got no modality; pass at least one')
  return sorted(tokens)


def _zero_absent(tokens: Tokens) -> Array:
  """Values, but 0 where absent: those may be NaN, and 0 * NaN in the gradient
  of a projection would spoil it for all examples."""
  return jnp.where(tokens.mask[:, :, None], tokens.values, 0)


def _make_projection(width: int, dtype: Any, name: str) -> mnn.Dense:
  return mnn.Dense(
    width,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, 'embed')
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
    dtype=dtype,
    name=name,
  )


def _join(
  module: nn.Module, tokens: Mapping[str, Tokens], width: int, dtype: Any
) -> Tokens:
  """Projects and marks each modality, and joins them along N.

  Called inside a compact method of `module`, which owns the parameters.
  """
  values, masks = [], []
  for name in _sort_names(tokens):
    x = _make_projection(width, dtype, f'{name}_projection')(
      _zero_absent(tokens[name])
    )
    mark = module.param(
      f'{name}_mark',
      nn.with_logical_partitioning(nn.initializers.normal(0.02), ('embed',)),
      (width,),
      jnp.float32,
    )
    mask = tokens[name].mask
    x = x + mark[None, None].astype(dtype)
    values.append(jnp.where(mask[:, :, None], x, 0))
    masks.append(mask)
  values = jnp.concatenate(values, axis=1)  # [B, sum of N_m, D]
  mask = jnp.concatenate(masks, axis=1)  # [B, sum of N_m]
  return Tokens(values, mask, ops.mean_tokens(values, mask))
