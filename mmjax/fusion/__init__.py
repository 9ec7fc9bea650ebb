"""Several `TokenVectors` in, one `TokenVectors` out.

Shape letters are those of `mmjax.types`.
"""

from mmjax.fusion.bilinear import (
  CompactBilinear,
  FactorizedBilinear,
  FactorizedHighOrder,
)
from mmjax.fusion.decisions import (
  MaxDecision,
  MeanDecision,
  ProductOfExperts,
  Stacking,
  Voting,
  WeightedDecision,
)
from mmjax.fusion.features import (
  AttentionFusion,
  FiLM,
  Max,
  Mean,
  PooledConcat,
  Product,
  Sum,
  WeightedSum,
)
from mmjax.fusion.fusion import Concat, CrossAttention, Gated
from mmjax.fusion.querying import GatedCrossAttention, SoftPrefix
from mmjax.fusion.resampling import QueryTransformerFusion, ResamplerFusion
from mmjax.fusion.streams import (
  Bottleneck,
  CoAttention,
  CrossmodalTransformer,
)
from mmjax.fusion.tensor import (
  BlockFusion,
  LowRankFusion,
  Mutan,
  TensorFusion,
)

# All fusions by level and name in a config.
FEATURE_FUSIONS = {
  'pooled_concat': PooledConcat,
  'sum': Sum,
  'weighted_sum': WeightedSum,
  'mean': Mean,
  'max': Max,
  'product': Product,
  'gated': Gated,
  'film': FiLM,
  'tensor': TensorFusion,
  'low_rank': LowRankFusion,
  'mcb': CompactBilinear,
  'mfb': FactorizedBilinear,
  'mfh': FactorizedHighOrder,
  'mutan': Mutan,
  'block_fusion': BlockFusion,
  'attention_pool': AttentionFusion,
}
TOKEN_FUSIONS = {
  'concat': Concat,
  'cross_attention': CrossAttention,
  'co_attention': CoAttention,
  'crossmodal_transformer': CrossmodalTransformer,
  'bottleneck': Bottleneck,
  'perceiver_resampler': ResamplerFusion,
  'q_former': QueryTransformerFusion,
  'gated_cross_attention': GatedCrossAttention,
  'soft_prefix': SoftPrefix,
}
DECISION_FUSIONS = {
  'mean_decision': MeanDecision,
  'max_decision': MaxDecision,
  'weighted_decision': WeightedDecision,
  'stacking': Stacking,
  'product_of_experts': ProductOfExperts,
  'voting': Voting,
}
FUSIONS = {**FEATURE_FUSIONS, **TOKEN_FUSIONS, **DECISION_FUSIONS}

__all__ = [
  'DECISION_FUSIONS',
  'FEATURE_FUSIONS',
  'FUSIONS',
  'TOKEN_FUSIONS',
  'AttentionFusion',
  'BlockFusion',
  'Bottleneck',
  'CoAttention',
  'CompactBilinear',
  'Concat',
  'CrossAttention',
  'CrossmodalTransformer',
  'FactorizedBilinear',
  'FactorizedHighOrder',
  'FiLM',
  'Gated',
  'GatedCrossAttention',
  'LowRankFusion',
  'Max',
  'MaxDecision',
  'Mean',
  'MeanDecision',
  'Mutan',
  'PooledConcat',
  'Product',
  'ProductOfExperts',
  'QueryTransformerFusion',
  'ResamplerFusion',
  'SoftPrefix',
  'Stacking',
  'Sum',
  'TensorFusion',
  'Voting',
  'WeightedDecision',
  'WeightedSum',
]
