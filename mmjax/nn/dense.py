"""The dense layer of all modules."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.nn import adapters, quantized
from mmjax.types import Array


class Dense(nn.Dense):
  """`flax.linen.Dense`, with the product in the device's best form.

  Where its parameters have an adapter (`mmjax.nn.adapters`), it is applied;
  their kernel may be quantised (`mmjax.nn.quantized`).
  """

  kernel_axes: ClassVar[tuple[int, int]] = (1, 1)

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps [..., E] to [..., features]."""
    shape = (inputs.shape[-1], self.features)
    kernel = quantized.find_kernel(
      self, self.kernel_init, shape, self.param_dtype
    )
    bias = None
    if self.use_bias:
      size = (self.features,)
      bias = self.param('bias', self.bias_init, size, self.param_dtype)
    x, kernel, bias = quantized.promote(inputs, kernel, bias, self.dtype)
    y = adapters.project(self, x, kernel)  # [..., features]
    if bias is None:
      return y
    return y + jnp.expand_dims(bias, range(y.ndim - 1))
