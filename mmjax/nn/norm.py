"""Normalisation layers by name."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import check_choice
from mmjax.types import Array

_AXES = ('norm',)
_KINDS = ('layernorm', 'rmsnorm', 'offset_rmsnorm')


def make_norm(
  kind: str,
  epsilon: float,
  dtype: Any,
  name: str | None = None,
  affine: bool = True,
) -> nn.Module:
  """Builds a normalisation over the last axis; statistics are in float32.

  Args:
    kind: 'layernorm' (Ba et al. 2016), 'rmsnorm' (Zhang and Sennrich 2019) or
      'offset_rmsnorm', which multiplies by 1 + its parameter (Gemma).
    epsilon: added to the variance.
    dtype: dtype of the output.
    name: the Linen name.
    affine: whether it has parameters.

  Raises:
    ConfigError: for another kind.
  """
  check_choice(kind, _KINDS, 'norm')
  scale_init = nn.with_logical_partitioning(nn.initializers.ones, _AXES)
  if kind == 'layernorm':
    return nn.LayerNorm(
      epsilon=epsilon,
      dtype=dtype,
      scale_init=scale_init,
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, _AXES),
      use_fast_variance=False,
      use_scale=affine,
      use_bias=affine,
      name=name,
    )
  if kind == 'rmsnorm' or (kind == 'offset_rmsnorm' and not affine):
    return nn.RMSNorm(
      epsilon=epsilon,
      dtype=dtype,
      scale_init=scale_init,
      use_scale=affine,
      name=name,
    )
  return OffsetRMSNorm(epsilon=epsilon, dtype=dtype, name=name)


class OffsetRMSNorm(nn.Module):
  """Normalisation by root mean square, whose scale is 1 + a parameter.

  As in Gemma (Mesnard et al. 2024, in their code); weight decay then draws the
  scale to 1.

  Attributes:
    epsilon: added to the variance.
    dtype: dtype of the output.
  """

  epsilon: float = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param(
      'scale',
      nn.with_logical_partitioning(nn.initializers.zeros, _AXES),
      x.shape[-1:],
      jnp.float32,
    )
    x = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    scale = jnp.expand_dims(1 + scale, range(x.ndim - 1))
    return (x * jax.lax.rsqrt(square + self.epsilon) * scale).astype(self.dtype)


class FrozenBatchNorm(nn.Module):
  """Batch normalisation with fixed statistics, kept as parameters.

  For convolutional towers with published weights (Ioffe and Szegedy 2015,
  inference form): the statistics are loaded, not tracked, so a module with it
  stays a pure function. `mean` and `var` get no gradient.

  Attributes:
    epsilon: added to the variance.
    dtype: dtype of the output.
  """

  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (x.shape[-1],)

    def param(name: str, init: Callable[..., Array]) -> Array:
      value = self.param(
        name, nn.with_logical_partitioning(init, _AXES), shape, jnp.float32
      )
      return value.reshape((1,) * (x.ndim - 1) + shape)

    scale = param('scale', nn.initializers.ones)
    bias = param('bias', nn.initializers.zeros)
    mean = jax.lax.stop_gradient(param('mean', nn.initializers.zeros))
    var = jax.lax.stop_gradient(param('var', nn.initializers.ones))
    y = (x - mean) / jnp.sqrt(var + self.epsilon) * scale + bias
    return y.astype(self.dtype)
