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
    number: number of vectors.
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


class SharedModulation(nn.Module):
  """Vectors that one layer made for all blocks, plus a table of this block.

  adaLN-single of PixArt-alpha (Chen et al. 2024, section 2.3).

  Attributes:
    width: number of features D of each vector.
    number: number of vectors n.
    dtype: dtype of the computation.
  """

  width: Size
  number: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, condition: Array) -> list[Array]:
    """Maps [B, n D] to n arrays [B, 1, D]."""
    table = self.param(
      'table',
      nn.with_logical_partitioning(
        nn.initializers.normal(self.width**-0.5), (None, 'embed')
      ),
      (self.number, self.width),
      jnp.float32,
    )
    shape = (len(condition), self.number, self.width)
    out = condition.reshape(shape) + table.astype(self.dtype)[None]
    return jnp.split(out, self.number, axis=1)
