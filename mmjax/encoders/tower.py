"""What the encoders around a `Stack` have in common."""

from typing import Any

import flax.linen as nn

from mmjax import nn as mnn
from mmjax.types import Array


class Tower(nn.Module):
  """Norms, blocks and pooling of encoders such as `ViT` and `Transformer`.

  A subclass has the fields that are used here, and calls `setup_tower` in its
  `setup`.
  """

  # Of a dense layer after the pooling; a field of those that may have one.
  pool_activation = None

  def setup_tower(
    self, initial_norm: bool, stack: type = mnn.Stack, **more: Any
  ) -> None:
    """Makes `blocks`, and the norms and the pooling that the fields set.

    Args:
      initial_norm: whether there is a norm before the blocks.
      stack: class of the blocks.
      **more: settings of `mmjax.nn.Block` besides those of the fields.
    """
    block = self.block or {}
    kind = block.get('norm', 'layernorm')
    epsilon = block.get('norm_epsilon', 1e-6)
    if initial_norm:
      self.initial_norm = mnn.make_norm(kind, epsilon, self.dtype)
    self.embed_dropout = nn.Dropout(self.dropout)
    self.blocks = stack(
      self.depth,
      self.width,
      self.num_heads,
      self.mlp_dim,
      block={**block, **more},
      drop_path=self.drop_path,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
    )
    if self.final_norm:
      self.last_norm = mnn.make_norm(kind, epsilon, self.dtype)
    if self.pooling == 'attention':
      self.attention_pool = mnn.AttentionPool(
        self.width,
        self.num_heads,
        self.mlp_dim,
        norm_epsilon=epsilon,
        activation=block.get('activation', 'gelu'),
        dtype=self.dtype,
      )
    if self.pool_activation is not None:
      self.pooler = mnn.Dense(
        self.width,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.xavier_uniform(), ('embed', None)
        ),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        dtype=self.dtype,
      )

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Lets tokens [B, N, D] attend where `mask` [B, N] is True."""
    x, _ = self.blocks(x, visible=mnn.Visible.of_keys(mask), train=train)
    return self.last_norm(x) if self.final_norm else x

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Summarises tokens [B, N, D] as [B, D]; sown as `pooled`."""
    pooled = self._summarise(x, mask, train=train)
    self.sow('intermediates', 'pooled', pooled)
    return pooled

  def _summarise(self, x: Array, mask: Array, *, train: bool) -> Array:
    if self.pooling == 'attention':
      pooled = self.attention_pool(x, mask, train=train)
    else:
      pooled = mnn.pool(self.pooling, x, mask)
    if self.pool_activation is None:
      return pooled  # [B, D]
    return mnn.activation(self.pool_activation)(self.pooler(pooled))
