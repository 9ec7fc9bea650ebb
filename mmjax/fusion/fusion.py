"""Mixing several modalities' tokens into one sequence."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.types import Array, Tokens


class Concat(nn.Module):
  """Puts all tokens in one sequence and lets them attend to each other.

  Each modality is projected to `width` and marked with a learned vector, as in
  VisualBERT and ViLT (Kim et al. 2021, equation 1).

  Attributes:
    width: D of the result.
    depth: number of blocks over the joint sequence; 0 for none.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    scan: see `mmjax.nn.Stack`.
    dtype: of the computation.
  """

  width: int
  depth: int = 0
  num_heads: int = 4
  mlp_dim: int = 512
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
      ValueError: if there is no modality.
    """
    joint = _joint(self, tokens, self.width, self.dtype)
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


class CrossAttention(nn.Module):
  """One modality asks, the others answer.

  Blocks of self-attention over the asking modality and cross-attention to the
  others' tokens, as the co-attention of LXMERT and ViLBERT, one way (Lu et al.
  2019, figure 2b). An example whose other modalities are all absent adds
  nothing that depends on their values.

  Attributes:
    query: name of the asking modality.
    width: D of the result.
    depth: number of blocks.
    num_heads: H.
    mlp_dim: hidden size of the MLPs.
    pooling: 'mean', 'first' or 'last' of the asking modality's tokens.
    block: further settings of `mmjax.nn.Block`.
    scan: see `mmjax.nn.Stack`.
    dtype: of the computation.
  """

  query: str
  width: int
  depth: int = 2
  num_heads: int = 4
  mlp_dim: int = 512
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
      ValueError: if the asking modality, or any other, is missing.
    """
    others = {name: t for name, t in tokens.items() if name != self.query}
    if self.query not in tokens or not others:
      raise ValueError(
        f'cross-attention needs {self.query!r} and another modality, got '
        f'{sorted(tokens)}; pass an absent one with a mask that is all False'
      )
    asking = tokens[self.query]
    x = _projection(self.width, self.dtype, 'query_projection')(_kept(asking))
    context = _joint(self, others, self.width, self.dtype)
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
      mnn.Visible(asking.mask[:, None]),
      train=train,
    )
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    return Tokens(x, asking.mask, mnn.pool(self.pooling, x, asking.mask))


class Gated(nn.Module):
  """Weighs modalities against each other, feature by feature.

  The gated multimodal unit (Arevalo et al. 2017, equations 4 to 7, with a
  softmax over modalities in place of independent gates): each modality's pooled
  vector is projected, and gates computed from all of them mix the projections.
  The tokens are scaled by the same gates and joined. An absent modality has a
  gate of exactly 0.

  Attributes:
    width: D of the result.
    dtype: of the computation.
  """

  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: unused, there is no dropout; the seam asks for it.

    Returns:
      Tokens: values [B, sum of N_m, D].

    Raises:
      ValueError: if there is no modality.
    """
    del train
    names = _names(tokens)
    present = jnp.stack([tokens[n].mask.any(axis=1) for n in names], axis=1)
    pooled = [
      jnp.where(present[:, i, None], tokens[n].pooled, 0)
      for i, n in enumerate(names)
    ]
    everything = jnp.concatenate(pooled, axis=-1)
    logits = nn.DenseGeneral(
      (len(names), self.width), dtype=self.dtype, name='gate'
    )(everything).astype(jnp.float32)
    there = present[:, :, None]
    logits = jnp.where(there, logits, jnp.finfo(jnp.float32).min)
    gates = jnp.where(there, jax.nn.softmax(logits, axis=1), 0.0)
    gates = gates.astype(self.dtype)
    self.sow('intermediates', 'gates', gates)
    projected = jnp.stack(
      [
        jnp.tanh(_projection(self.width, self.dtype, f'{n}_pooled')(pooled[i]))
        for i, n in enumerate(names)
      ],
      axis=1,
    )
    joint = _joint(self, tokens, self.width, self.dtype)
    lengths = [tokens[n].mask.shape[1] for n in names]
    scale = jnp.concatenate(
      [
        jnp.repeat(gates[:, i, None], length, axis=1)
        for i, length in enumerate(lengths)
      ],
      axis=1,
    )
    values = joint.values * scale
    return Tokens(values, joint.mask, jnp.sum(gates * projected, axis=1))


def _names(tokens: Mapping[str, Tokens]) -> list[str]:
  if not tokens:
    raise ValueError('fusion got no modality; pass at least one')
  return sorted(tokens)


def _kept(tokens: Tokens) -> Array:
  """Values, but 0 where absent: those may be NaN, and 0 * NaN in the gradient
  of a projection would spoil it for all examples."""
  return jnp.where(tokens.mask[:, :, None], tokens.values, 0)


def _projection(width: int, dtype: Any, name: str) -> nn.Dense:
  return nn.Dense(
    width,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, 'embed')
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
    dtype=dtype,
    name=name,
  )


def _joint(
  module: nn.Module, tokens: Mapping[str, Tokens], width: int, dtype: Any
) -> Tokens:
  """Projects and marks each modality, and joins them along N.

  Called inside a compact method of `module`, which owns the parameters.
  """
  values, masks = [], []
  for name in _names(tokens):
    x = _projection(width, dtype, f'{name}_projection')(_kept(tokens[name]))
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
  values = jnp.concatenate(values, axis=1)
  mask = jnp.concatenate(masks, axis=1)
  return Tokens(values, mask, ops.mean_tokens(values, mask))
