"""Linen blocks that more than one module needs."""

from mmjax.nn.attention import Attention, KeyValues
from mmjax.nn.block import Block, BlockCache
from mmjax.nn.embedding import TokenEmbedding
from mmjax.nn.mlp import Linear, Mlp, activation
from mmjax.nn.norm import FrozenBatchNorm, make_norm
from mmjax.nn.pooling import AttentionPool, pool
from mmjax.nn.relative import RelativePositions
from mmjax.nn.stack import Stack, empty_cache, stack_layers, unstack_layers

__all__ = [
  'Attention',
  'AttentionPool',
  'Block',
  'BlockCache',
  'FrozenBatchNorm',
  'KeyValues',
  'Linear',
  'Mlp',
  'RelativePositions',
  'Stack',
  'TokenEmbedding',
  'activation',
  'empty_cache',
  'make_norm',
  'pool',
  'stack_layers',
  'unstack_layers',
]
