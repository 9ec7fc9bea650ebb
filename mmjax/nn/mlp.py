"""The position-wise feed-forward network, and its simplest case."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import choose
from mmjax.nn import dense as dense_lib
from mmjax.parallel import kept, rules
from mmjax.types import Array, DropRate, Size


def quick_gelu(x: Array) -> Array:
  """The sigmoid approximation of GELU that OpenAI's CLIP was trained with."""
  return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS = {
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
  'identity': lambda x: x,
  'quick_gelu': quick_gelu,
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'tanh': jnp.tanh,
}


def activation(name: str):
  """Returns the activation function of a name.

  Raises:
    ConfigError: for an unknown name, listing the known ones.
  """
  return choose(name, ACTIVATIONS, 'activation')


class Mlp(nn.Module):
  """Two dense layers around an activation, or three when gated.

  Ungated: down(act(up(x))) (Vaswani et al. 2017, equation 2). Gated:
  down(act(gate(x)) * up(x)) (Shazeer 2020, equations 5 and 6); with `silu` this
  is SwiGLU as in Llama, with `gelu_tanh` GeGLU as in T5 1.1 and Gemma.

  Attributes:
    width: D, size of the output.
    mlp_dim: size M of the hidden layer.
    activation: a key of `ACTIVATIONS`.
    gated: whether a third matrix gates the hidden layer.
    use_bias: whether the dense layers add a bias.
    dropout: rate on the hidden layer.
    dtype: dtype of the computation.
  """

  width: Size
  mlp_dim: Size
  activation: str = 'gelu'
  gated: bool = False
  use_bias: bool = True
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    """Maps [B, N, D] to [B, N, width]."""
    act = activation(self.activation)
    dense = functools.partial(
      _make_dense, use_bias=self.use_bias, dtype=self.dtype
    )
    hidden = dense(self.mlp_dim, ('embed', 'mlp'), name='up')(x)  # [B, N, M]
    hidden = kept.name(hidden, kept.HIDDEN)
    if self.gated:
      gate = dense(self.mlp_dim, ('embed', 'mlp'), name='gate')(x)
      gate = kept.name(gate, kept.HIDDEN)
      hidden = act(gate) * hidden
    else:
      hidden = act(hidden)
    hidden = rules.constrain(hidden, 'batch', 'length', 'mlp')
    hidden = nn.Dropout(self.dropout)(hidden, deterministic=not train)
    return dense(self.width, ('mlp', 'embed'), name='down')(hidden)


class Linear(nn.Module):
  """One dense layer, with the call of `Mlp`.

  Attributes:
    width: D, of the output.
    use_bias: whether it adds a bias.
    dtype: dtype of the computation.
  """

  width: Size
  use_bias: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    """Maps [B, N, E] to [B, N, width]; `train` changes nothing."""
    del train
    return _make_dense(
      self.width,
      (None, 'embed'),
      use_bias=self.use_bias,
      dtype=self.dtype,
      name='dense',
    )(x)


def _make_dense(
  features: int, axes: tuple[str | None, str], **kwargs
) -> dense_lib.Dense:
  return dense_lib.Dense(
    features,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), axes
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[1:]),
    **kwargs,
  )
