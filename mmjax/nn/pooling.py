"""Turning a sequence into one vector."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.nn import attention, mlp, norm
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, Positive, Size

_POOLS: dict[str, Callable[[Array, Array], Array]] = {
  'mean': ops.mean_tokens,
  'first': lambda values, mask: values[:, 0],
  'last': ops.last_token,
}


def pool(kind: str, values: Array, mask: Array) -> Array:
  """Summarises [B, N, D] as [B, D]: 'mean', 'first' or 'last' real token.

  Raises:
    ConfigError: for another kind.
  """
  if kind not in _POOLS:
    raise ConfigError(
      f'pool {kind!r} is unknown; use one of {tuple(_POOLS)}, or with ViT and '
      f"Transformer 'attention'"
    )
  return _POOLS[kind](values, mask)


class AttentionPool(nn.Module):
  """One learned query attends to all tokens, then an MLP on a residual.

  The multi-head attention pooling of SigLIP and of Zhai et al. 2022 (MAP).

  Attributes:
    width: number of features D.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLP.
    norm_epsilon: added to the variance by the norm before the MLP.
    activation: a key of `mlp.ACTIVATIONS`.
    dtype: dtype of the computation.
  """

  width: Size
  num_heads: Size
  mlp_dim: Size
  norm_epsilon: Positive = 1e-6
  activation: str = 'gelu'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, values: Array, mask: Array, *, train: bool) -> Array:
    """Summarises [B, N, D], mask [B, N], as [B, D]."""
    probe = self.param(
      'probe',
      nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, 'embed')
      ),
      (1, self.width),
      jnp.float32,
    )
    query = jnp.broadcast_to(
      probe[None].astype(self.dtype), (values.shape[0], 1, self.width)
    )
    x, _ = attention.Attention(
      self.width,
      self.num_heads,
      cross=True,
      dtype=self.dtype,
      name='attention',
    )(
      query, values, visible_lib.Visible.of_keys(mask), train=train
    )  # [B, 1, D]
    y = norm.make_norm('layernorm', self.norm_epsilon, self.dtype, name='norm')(
      x
    )
    y = mlp.Mlp(
      self.width,
      self.mlp_dim,
      activation=self.activation,
      dtype=self.dtype,
      name='mlp',
    )(y, train=train)
    return (x + y)[:, 0]  # [B, D]
