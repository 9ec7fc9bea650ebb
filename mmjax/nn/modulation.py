"""Shifts, scales and gates that follow from a condition."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.nn import dense
from mmjax.types import Array, Size


class Modulation(nn.Module):
  """One dense layer from a condition to several vectors, 0 at first.

  What adaLN-zero makes of the embedding of time and class (Peebles and Xie
  2023, figure 3): dense(silu(c)).

  Attributes:
    width: number of features D of each vector.
    number: of vectors.
    dtype: dtype of the computation.
  """

  width: Size
  number: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, condition: Array) -> list[Array]:
    """Maps [B, C] to `number` arrays [B, 1, D]."""
    out = dense.Dense(
      self.number * self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.zeros, ('embed', 'mlp')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('mlp',)),
      dtype=self.dtype,
      name='dense',
    )(jax.nn.silu(condition.astype(self.dtype)))
    return jnp.split(out[:, None], self.number, axis=-1)
