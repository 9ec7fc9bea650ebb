"""Vectors of numbers, such as the times of diffusion."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.nn import mlp
from mmjax.types import Array, Size


class NumberEmbedding(nn.Module):
  """Cosines and sines of a number, then two dense layers.

  As DiT does with times (Peebles and Xie 2023, in their code).

  Attributes:
    width: number of features D.
    hidden: number of features of the hidden layer; None for D.
    features: number of cosines and sines.
    inclusive: whether their frequencies end at 1 / 10,000, instead of short of
      it.
    dtype: dtype of the computation.
  """

  width: Size
  hidden: Size | None = None
  features: Size = 256
  inclusive: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, numbers: Array) -> Array:
    """Maps [B] to [B, D]."""
    x = ops.sincos_numbers(
      numbers.astype(jnp.float32), self.features, inclusive=self.inclusive
    )
    return mlp.Mlp(
      self.width,
      self.hidden or self.width,
      activation='silu',
      dtype=self.dtype,
      name='mlp',
    )(x[:, None], train=False)[:, 0]
