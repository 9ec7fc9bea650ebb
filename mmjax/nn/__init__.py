"""Linen blocks that more than one module needs.

Shape letters are those of `mmjax.types`.
"""

from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.cache import BlockCache, Decoding, KeyValues, empty_cache
from mmjax.nn.codebooks import CODEBOOKS
from mmjax.nn.connectors import AveragePool, PixelShuffle, Resampler
from mmjax.nn.dense import Dense
from mmjax.nn.divided import DividedBlock, DividedStack
from mmjax.nn.embedding import (
  OutputMatrix,
  TokenEmbedding,
  check_ids,
  make_head,
)
from mmjax.nn.image_codec import LatentDecoder, LatentEncoder
from mmjax.nn.joint import JointBlock
from mmjax.nn.mlp import Linear, Mlp, activation
from mmjax.nn.modulation import Modulation, SharedModulation
from mmjax.nn.norm import FrozenBatchNorm, make_norm
from mmjax.nn.numbers import NumberEmbedding
from mmjax.nn.patch_discriminator import PatchDiscriminator
from mmjax.nn.pooling import AttentionPool, pool
from mmjax.nn.positions import (
  Positions,
  check_grid,
  choose_grid,
  fit_positions,
)
from mmjax.nn.query_transformer import QueryTransformer
from mmjax.nn.relative import RelativePositions
from mmjax.nn.sound_codec import SoundDecoder, SoundEncoder, SoundLayout
from mmjax.nn.stack import Stack, stack_layers, unstack_layers
from mmjax.nn.vector_quantizers import Codes
from mmjax.nn.visible import EVERYTHING, Context, Visible

__all__ = [
  'CODEBOOKS',
  'EVERYTHING',
  'Attention',
  'AttentionPool',
  'AveragePool',
  'Block',
  'BlockCache',
  'Codes',
  'Context',
  'Decoding',
  'Dense',
  'DividedBlock',
  'DividedStack',
  'FrozenBatchNorm',
  'JointBlock',
  'KeyValues',
  'LatentDecoder',
  'LatentEncoder',
  'Linear',
  'Mlp',
  'Modulation',
  'NumberEmbedding',
  'OutputMatrix',
  'PatchDiscriminator',
  'PixelShuffle',
  'Positions',
  'QueryTransformer',
  'RelativePositions',
  'Resampler',
  'SharedModulation',
  'SoundDecoder',
  'SoundEncoder',
  'SoundLayout',
  'Stack',
  'TokenEmbedding',
  'Visible',
  'activation',
  'check_grid',
  'check_ids',
  'choose_grid',
  'empty_cache',
  'fit_positions',
  'make_head',
  'make_norm',
  'pool',
  'stack_layers',
  'unstack_layers',
]
