"""From an encoder's tokens to fewer tokens of another width."""

import math
from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.nn import block as block_lib
from mmjax.nn import mlp, norm
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, Positive, Size


class PixelShuffle(nn.Module):
  """Joins the tokens of each square of an image's grid into one.

  Space to depth (Shi et al. 2016, the inverse of their figure 1), then an MLP,
  as vision-language models shorten images (InternVL 1.5, Chen et al. 2024).

  Attributes:
    width: D of the result.
    factor: side of a square in tokens.
    mlp_dim: hidden size of the MLP; 0 for one dense layer.
    activation: activation of the MLP.
    use_bias: whether the MLP, or the dense layer, has biases.
    norm: norm of what a square's tokens are joined to, before the MLP, as
      `Block.norm`; None for none.
    norm_epsilon: added to the variance.
    dtype: dtype of the computation.
  """

  width: Size
  factor: Size = 2
  mlp_dim: int = 0
  activation: str = 'gelu'
  use_bias: bool = True
  norm: str | None = None
  norm_epsilon: Positive = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, values: Array, *, train: bool) -> Array:
    """Maps [B, N, E] to [B, N / factor^2, D].

    Args:
      values: tokens of a square grid, rows first.
      train: unused, as there is no dropout.

    Raises:
      ConfigError: if N is not a square of a multiple of `factor`.
    """
    side = _find_side(values.shape[1], self.factor, 'pixel_shuffle')
    x = einops.rearrange(
      values,
      'b (r p c q) d -> b (r c) (p q d)',
      p=self.factor,
      q=self.factor,
      c=side // self.factor,
      r=side // self.factor,
    )
    if self.norm is not None:
      x = norm.make_norm(self.norm, self.norm_epsilon, self.dtype, name='norm')(
        x
      )
    return _project(self, x, self.use_bias, train)


class AveragePool(nn.Module):
  """The mean of each square of an image's grid, normalised and projected.

  As in Gemma 3 (Gemma Team 2025, section 2.1, in their code), whose projection
  is one dense layer.

  Attributes:
    width: D of the result.
    factor: side of a square in tokens.
    mlp_dim: hidden size of an MLP; 0 for one dense layer without biases.
    activation: activation of the MLP.
    norm: norm of the means, as `Block.norm`.
    norm_epsilon: added to the variance.
    dtype: dtype of the computation.
  """

  width: Size
  factor: Size
  mlp_dim: int = 0
  activation: str = 'gelu'
  norm: str = 'rmsnorm'
  norm_epsilon: Positive = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, values: Array, *, train: bool) -> Array:
    """Maps [B, N, E] to [B, N / factor^2, D].

    Args:
      values: tokens of a square grid, rows first.
      train: unused, as there is no dropout.

    Raises:
      ConfigError: if N is not a square of a multiple of `factor`.
    """
    side = _find_side(values.shape[1], self.factor, 'average_pool')
    x = einops.reduce(
      values,
      'b (r p c q) d -> b (r c) d',
      'mean',
      p=self.factor,
      q=self.factor,
      c=side // self.factor,
      r=side // self.factor,
    )
    x = norm.make_norm(self.norm, self.norm_epsilon, self.dtype, name='norm')(x)
    return _project(self, x, bool(self.mlp_dim), train)


def _project(
  connector: PixelShuffle | AveragePool, x: Array, use_bias: bool, train: bool
) -> Array:
  """A connector's dense layer, or its MLP where it has a hidden size."""
  settings = {'use_bias': use_bias, 'dtype': connector.dtype}
  if not connector.mlp_dim:
    return mlp.Linear(connector.width, **settings, name='linear')(
      x, train=train
    )
  return mlp.Mlp(
    connector.width,
    connector.mlp_dim,
    activation=connector.activation,
    **settings,
    name='mlp',
  )(x, train=train)


def _find_side(number: int, factor: int, name: str) -> int:
  """The side of a square grid of tokens, a multiple of a factor."""
  side = math.isqrt(number)
  if side * side != number or side % factor:
    raise ConfigError(
      f'{name} with factor {factor} needs a square grid whose '
      f'side is a multiple of it, got {number} tokens; leave out tokens such '
      'as the class token, or change the image or patch size'
    )
  return side


class Resampler(nn.Module):
  """Any number of tokens summed up in a fixed number of learned ones.

  The Perceiver resampler of Flamingo (Alayrac et al. 2022, figure 5): in each
  block learned tokens attend to the given ones and to themselves at once, then
  an MLP follows. The given tokens are normalised once, not in each block.

  Attributes:
    width: width D of the result.
    number: number of learned tokens Q.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `Block`.
    dtype: dtype of the computation.
  """

  width: Size
  number: Size
  depth: Size = 2
  num_heads: Size = 4
  mlp_dim: Size = 512
  block: Mapping[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None = None, *, train: bool
  ) -> Array:
    """Sums up [B, N, E] in [B, Q, D].

    Args:
      values: [B, N, E].
      mask: [B, N], True where a token is real; None means everywhere.
      train: whether dropout is on.
    """
    if mask is None:
      mask = jnp.ones(values.shape[:2], bool)
    given = mlp.Linear(self.width, dtype=self.dtype, name='projection')(
      values, train=train
    )
    given = norm.make_norm('layernorm', 1e-6, self.dtype, name='first_norm')(
      given
    )
    queries = self.param(
      'queries',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (self.number, self.width),
      jnp.float32,
    ).astype(self.dtype)
    x = jnp.broadcast_to(queries[None], (len(values), *queries.shape))
    own = jnp.ones(x.shape[:2], bool)
    for i in range(self.depth):
      context = visible_lib.Context(
        jnp.concatenate([given, x], axis=1),
        jnp.concatenate([mask, own], axis=1),
      )
      x, _ = block_lib.Block(
        self.width,
        self.num_heads,
        self.mlp_dim,
        **{
          **(self.block or {}),
          'self_attention': False,
          'cross_attention': True,
        },
        dtype=self.dtype,
        name=f'layers_{i}',
      )(x, context, train=train)
    return norm.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
