"""Positions of the tokens of a sequence."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array, Size

_KINDS = ('learned', 'sincos', 'none')


class Positions(nn.Module):
  """One vector per position, to be added to tokens.

  Attributes:
    width: number of features D.
    max_length: most tokens of a sequence, the size of the table.
    kind: 'learned', 'sincos' (Vaswani et al. 2017, section 3.5) or 'none'.
    dtype: dtype of the vectors.
  """

  width: Size
  max_length: Size
  kind: str = 'learned'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, length: int) -> Array:
    """The vectors [1, N, D] of positions 0 to N - 1, where N is `length`.

    Raises:
      ConfigError: if N is more than `max_length`, or the kind is unknown.
    """
    check_choice(self.kind, _KINDS, 'positions')
    if self.kind == 'none':
      return jnp.zeros((1, length, self.width), self.dtype)
    if length > self.max_length:
      raise ConfigError(
        f'the input makes {length} tokens, more than {self.max_length}, for '
        'which there are positions; shorten it or raise that number'
      )
    if self.kind == 'sincos':
      table = ops.sincos_1d(self.max_length, self.width)
    else:
      table = self.param(
        'table',
        nn.with_logical_partitioning(
          nn.initializers.normal(0.02), (None, 'embed')
        ),
        (self.max_length, self.width),
        jnp.float32,
      )
    return table[None, :length].astype(self.dtype)
