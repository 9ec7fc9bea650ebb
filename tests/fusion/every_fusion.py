"""A small one of each fusion, and what it gets."""

import jax.numpy as jnp
import numpy as np

from mmjax import fusion
from mmjax.types import TokenVectors

BLOCKS = {'num_heads': 2, 'mlp_dim': 7}
WIDTH = 6
# Name of the row -> function of further settings.
ROWS = {
  'pooled_concat': lambda **kw: fusion.PooledConcat(WIDTH, **kw),
  'sum': lambda **kw: fusion.Sum(WIDTH, **kw),
  'weighted_sum': lambda **kw: fusion.WeightedSum(WIDTH, **kw),
  'mean': lambda **kw: fusion.Mean(WIDTH, **kw),
  'max': lambda **kw: fusion.Max(WIDTH, **kw),
  'product': lambda **kw: fusion.Product(WIDTH, **kw),
  'gated': lambda **kw: fusion.Gated(WIDTH, **kw),
  'gated_scalar': lambda **kw: fusion.Gated(WIDTH, 'scalar', **kw),
  'gated_sigmoid': lambda **kw: fusion.Gated(WIDTH, 'sigmoid', **kw),
  'film': lambda **kw: fusion.FiLM('text', WIDTH, **kw),
  'tensor': lambda **kw: fusion.TensorFusion(WIDTH, size=5, **kw),
  'low_rank': lambda **kw: fusion.LowRankFusion(WIDTH, rank=2, **kw),
  'mcb': lambda **kw: fusion.CompactBilinear(WIDTH, size=11, **kw),
  'mfb': lambda **kw: fusion.FactorizedBilinear(WIDTH, factors=2, **kw),
  'mfh': lambda **kw: fusion.FactorizedHighOrder(WIDTH, factors=2, **kw),
  'mutan': lambda **kw: fusion.Mutan(WIDTH, size=5, rank=2, **kw),
  'block_fusion': lambda **kw: fusion.BlockFusion(
    WIDTH, size=6, chunks=3, rank=2, **kw
  ),
  'attention_pool': lambda **kw: fusion.AttentionFusion(WIDTH, **BLOCKS, **kw),
  'concat': lambda **kw: fusion.Concat(WIDTH, 1, **BLOCKS, **kw),
  'concat_only': lambda **kw: fusion.Concat(WIDTH, **kw),
  'cross_attention': lambda **kw: fusion.CrossAttention(
    'text', WIDTH, 1, **BLOCKS, **kw
  ),
  'co_attention': lambda **kw: fusion.CoAttention(WIDTH, 1, **BLOCKS, **kw),
  'crossmodal_transformer': lambda **kw: fusion.CrossmodalTransformer(
    WIDTH, 1, **BLOCKS, **kw
  ),
  'bottleneck': lambda **kw: fusion.Bottleneck(
    WIDTH, 2, number=2, **BLOCKS, **kw
  ),
  'perceiver_resampler': lambda **kw: fusion.ResamplerFusion(
    WIDTH, 2, 1, **BLOCKS, **kw
  ),
  'q_former': lambda **kw: fusion.QueryTransformerFusion(
    WIDTH, 2, 2, **BLOCKS, **kw
  ),
  'gated_cross_attention': lambda **kw: fusion.GatedCrossAttention(
    'text', WIDTH, 1, **BLOCKS, **kw
  ),
  'soft_prefix': lambda **kw: fusion.SoftPrefix('text', WIDTH, 2, **kw),
  'mean_decision': fusion.MeanDecision,
  'max_decision': fusion.MaxDecision,
  'max_of_outputs': lambda **kw: fusion.MaxDecision(space='outputs', **kw),
  'weighted_decision': fusion.WeightedDecision,
  'stacking': fusion.Stacking,
  'product_of_experts': fusion.ProductOfExperts,
  'voting': fusion.Voting,
}
# Whose result is made of the querying modality's tokens.
QUERYING = ('film', 'cross_attention', 'gated_cross_attention')
# Whose result is all tokens, one modality after the other.
JOINING = (
  'gated',
  'gated_scalar',
  'gated_sigmoid',
  'concat',
  'concat_only',
  'co_attention',
  'crossmodal_transformer',
  'bottleneck',
)
# Whose result are two learned tokens.
SUMMING = ('perceiver_resampler', 'q_former')
# Which treat all modalities alike, but for parameters by modality; of those on
# one joint sequence, the quickest.
SYMMETRIC = (
  'sum',
  'mean',
  'max',
  'product',
  'low_rank',
  'mfb',
  'mfh',
  'mutan',
  'block_fusion',
  'attention_pool',
  'co_attention',
  'crossmodal_transformer',
  'bottleneck',
  'mean_decision',
  'max_decision',
  'max_of_outputs',
  'product_of_experts',
)


def make_tokens(name):
  """Three examples; the second has no image, the third no text."""
  rng = np.random.default_rng(0)
  decides = ROWS[name]().level == 'decision'

  def one(length, width, absent):
    values = jnp.asarray(rng.normal(size=(3, length, width)), jnp.float32)
    mask = jnp.arange(length)[None] < jnp.asarray([[length], [2], [1]])
    mask = mask & (jnp.arange(3) != absent)[:, None]
    return TokenVectors(values, mask, values.mean(axis=1))

  if decides:
    return {'image': one(1, 5, absent=1), 'text': one(1, 5, absent=2)}
  return {'image': one(4, 5, absent=1), 'text': one(3, 7, absent=2)}


def spoil(tokens, garbage):
  """Tokens with garbage wherever their mask is False."""

  def one(t):
    there = t.mask.any(axis=1)[:, None]
    return TokenVectors(
      jnp.where(t.mask[:, :, None], t.values, garbage),
      t.mask,
      jnp.where(there, t.pooled, garbage),
    )

  return {name: one(t) for name, t in tokens.items()}
