"""Fusions of one pooled vector per modality, without their interactions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.fusion import modalities
from mmjax.types import Array, Size, TokenVectors


class FeatureFusion(nn.Module):
  """One vector from the pooled vectors of all modalities.

  A subclass defines `mix`. An absent modality is left out: what it holds
  changes nothing.

  Attributes:
    width: D of the result.
    dtype: dtype of the computation; parameters are float32.
    minimum: number of modalities that the method needs.
  """

  level: ClassVar[str] = 'feature'
  minimum: ClassVar[int] = 1

  width: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m]; only `pooled` and `mask` count.
      train: whether dropout is on.

    Returns:
      TokenVectors: one token [B, 1, D], real where an example has any modality,
      and the same vector as `pooled`.

    Raises:
      ConfigError: if there are fewer modalities than the method needs.
    """
    names = modalities.sort_names(tokens, self.minimum, type(self).__name__)
    pooled = modalities.get_summaries(tokens)
    present = modalities.stack_presence(tokens, names)  # [B, m]
    vector = self.mix({n: pooled[n] for n in names}, present, train=train)
    return modalities.make_single(vector, present.any(axis=1))

  def mix(
    self, pooled: Mapping[str, Array], present: Array, *, train: bool
  ) -> Array:
    """Computes the result [B, D].

    Args:
      pooled: by modality in the order of their names, [B, D_m], zeros where
        absent.
      present: [B, m], which examples have which modality.
      train: whether dropout is on.
    """
    raise NotImplementedError

  def project(
    self,
    pooled: Mapping[str, Array],
    width: int | None = None,
    suffix: str = 'projection',
    use_bias: bool = True,
  ) -> Array:
    """A dense layer for each modality, [B, m, `width` or D]."""
    return jnp.stack(
      [
        modalities.make_projection(
          width or self.width,
          self.dtype,
          f'{name}_{suffix}',
          use_bias=use_bias,
        )(vector)
        for name, vector in pooled.items()
      ],
      axis=1,
    )


class PooledConcat(FeatureFusion):
  """One dense layer on all vectors, one after the other.

  Early fusion of features (Baltrusaitis et al. 2019); an absent
  modality is a vector of zeros.
  """

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del present, train
    everything = jnp.concatenate(list(pooled.values()), axis=-1)
    return modalities.make_projection(self.width, self.dtype, 'output')(
      everything
    )


class Sum(FeatureFusion):
  """The sum of a projection of each modality."""

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    x = ops.zero_masked(self.project(pooled), present)  # [B, m, D]
    return x.sum(axis=1)


class Mean(FeatureFusion):
  """The mean of a projection of each modality, over those that are present."""

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    return ops.mean_tokens(self.project(pooled), present)


class Max(FeatureFusion):
  """The largest value of each feature over the modalities that are present."""

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    return take_largest(self.project(pooled), present)


class WeightedSum(FeatureFusion):
  """A sum of projections with one learned weight a modality.

  The weights are a softmax over the modalities that are present, and among the
  intermediates, `weights` [B, m].
  """

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    weights = compute_weights(self, present)
    x = self.project(pooled)  # [B, m, D]
    return jnp.einsum('bm,bmd->bd', weights.astype(self.dtype), x)


class Product(FeatureFusion):
  """The product of a projection of each modality, feature by feature.

  As in the VQA baseline of Antol et al. 2015, with a hyperbolic
  tangent after each projection. An absent modality is a factor of 1.
  """

  minimum: ClassVar[int] = 2

  def mix(self, pooled, present, *, train):
    """Computes the result [B, D]."""
    del train
    return multiply(jnp.tanh(self.project(pooled)), present)


class FiLM(nn.Module):
  """Scales and shifts one modality's tokens by what the others hold.

  Feature-wise linear modulation (Perez et al. 2018, section 2), with a scale
  of 1 + gamma, which starts near 1. gamma and beta are sums of one
  projection of each other modality; an absent one adds nothing.

  Attributes:
    query: name of the modality whose tokens are modulated.
    width: D of the result.
    pooling: 'mean', 'first' or 'last' of the modulated tokens.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'feature'

  query: str
  width: Size
  pooling: str = 'mean'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: values [B, N_query, D].

    Raises:
      ConfigError: if the modulated modality, or any other, is missing.
    """
    del train
    query, others = modalities.split_query(tokens, self.query, 'FiLM')
    x = modalities.make_projection(self.width, self.dtype, 'query_projection')(
      ops.zero_masked(query.values, query.mask)
    )  # [B, N, D]
    both = jnp.zeros((len(x), 2 * self.width), self.dtype)
    pooled = modalities.get_summaries(others)
    for name in sorted(others):
      added = modalities.make_projection(
        2 * self.width, self.dtype, f'{name}_film'
      )(pooled[name])
      both += ops.zero_masked(added, modalities.is_present(others[name]))
    gamma, beta = jnp.split(both[:, None], 2, axis=-1)  # [B, 1, D]
    x = ops.zero_masked((1 + gamma) * x + beta, query.mask)
    return TokenVectors(x, query.mask, mnn.pool(self.pooling, x, query.mask))

  def locate(self, lengths: Mapping[str, int], name: str) -> int | None:
    """0 for the modulated modality, whose tokens are the result; else None."""
    del lengths
    return 0 if name == self.query else None


class AttentionFusion(nn.Module):
  """One learned query attends to the tokens of all modalities.

  Multi-head attention pooling (Zhai et al. 2022) over the joint
  sequence of `Concat`.

  Attributes:
    width: D of the result.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLP.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'feature'

  width: Size
  num_heads: Size = 4
  mlp_dim: Size = 512
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
      TokenVectors: one token [B, 1, D], and the same vector as `pooled`.

    Raises:
      ConfigError: if there is no modality.
    """
    joint = modalities.join(self, tokens, self.width, self.dtype)
    vector = mnn.AttentionPool(
      self.width, self.num_heads, self.mlp_dim, dtype=self.dtype, name='pool'
    )(joint.values, joint.mask, train=train)
    return modalities.make_single(vector, joint.mask.any(axis=1))


def compute_weights(module: nn.Module, present: Array) -> Array:
  """A learned softmax over the modalities that are present.

  Called inside a compact method of `module`, which owns the parameter.

  Args:
    module: the fusion.
    present: [B, m].

  Returns:
    Weights [B, m] float32, 0 of an absent modality; sown as `weights`.
  """
  logits = module.param(
    'weights',
    nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
    (present.shape[1],),
    jnp.float32,
  )
  lowest = jnp.finfo(jnp.float32).min
  logits = jnp.where(present, logits[None], lowest)
  weights = jnp.where(present, jax.nn.softmax(logits, axis=1), 0.0)
  module.sow('intermediates', 'weights', weights)
  return weights


def take_largest(x: Array, present: Array) -> Array:
  """The largest values over modalities [B, m, D] that are present; else 0.

  Its gradient goes to the first of equal ones.
  """
  lowest = jnp.finfo(x.dtype).min
  kept = jnp.where(present[:, :, None], x, lowest)
  # Not `ops.max_tokens`: over a few modalities, comparing is quicker than
  # gathering.
  out = kept[:, 0]
  for i in range(1, x.shape[1]):
    out = jnp.where(out >= kept[:, i], out, kept[:, i])
  return ops.zero_masked(out, present.any(axis=1))


def multiply(x: Array, present: Array) -> Array:
  """The product over modalities [B, m, ...], in which absent ones are 1."""
  real = present.reshape(*present.shape, *(1,) * (x.ndim - 2))
  # Not `jnp.prod`, whose gradient divides.
  factors = jnp.where(real, x, jnp.ones((), x.dtype))
  out = factors[:, 0]
  for i in range(1, x.shape[1]):
    out = out * factors[:, i]
  return out
