"""Pure functions of arrays that the modules are made of."""

from mmjax.ops.attention import causal_mask, dot_product_attention
from mmjax.ops.masking import (
  last_token,
  masked_mean,
  mean_tokens,
  unit_norm,
)
from mmjax.ops.positions import (
  positions_on_grids,
  resize_positions,
  rotary,
  sincos_1d,
  sincos_2d,
)
from mmjax.ops.sampling import filter_logits, sample_token

__all__ = [
  'causal_mask',
  'dot_product_attention',
  'filter_logits',
  'last_token',
  'masked_mean',
  'mean_tokens',
  'positions_on_grids',
  'resize_positions',
  'rotary',
  'sample_token',
  'sincos_1d',
  'sincos_2d',
  'unit_norm',
]
