"""Pure functions of arrays that the modules use."""

from mmjax.ops.attention import (
  allowed_keys,
  cap_softly,
  causal_mask,
  dot_product_attention,
  recent_keys,
  same_blocks,
)
from mmjax.ops.choosing import (
  choose,
  count_chosen,
  draw_by_index,
  largest_choice,
)
from mmjax.ops.denoising import (
  StepTable,
  invert,
  make_step_table,
  sample,
)
from mmjax.ops.interpolation import slerp
from mmjax.ops.late_interaction import maxsim
from mmjax.ops.masked_decoding import count_hidden, fill_tokens
from mmjax.ops.masking import (
  check_mask,
  everywhere,
  is_everywhere,
  last_token,
  masked_mean,
  max_tokens,
  mean_tokens,
  unit_norm,
  zero_masked,
)
from mmjax.ops.noise import NoiseSchedule
from mmjax.ops.patches import (
  check_layout,
  check_pixels,
  cut_patches,
  join_patches,
  take_patches,
)
from mmjax.ops.positions import (
  positions_on_grids,
  relative_buckets,
  resize_positions,
  rotary,
  rotary_frequencies,
  sample_positions,
)
from mmjax.ops.sampling import (
  filter_each,
  filter_logits,
  sample_each,
  sample_token,
)
from mmjax.ops.sincos import sincos_1d, sincos_2d, sincos_grid, sincos_numbers
from mmjax.ops.spectrogram import (
  FBANK_FRAME,
  log_fbank,
  log_mel,
  mel_filters,
  spectral_distance,
)

__all__ = [
  'FBANK_FRAME',
  'NoiseSchedule',
  'StepTable',
  'allowed_keys',
  'cap_softly',
  'causal_mask',
  'check_layout',
  'check_mask',
  'check_pixels',
  'choose',
  'count_chosen',
  'count_hidden',
  'cut_patches',
  'dot_product_attention',
  'draw_by_index',
  'everywhere',
  'fill_tokens',
  'filter_each',
  'filter_logits',
  'invert',
  'is_everywhere',
  'join_patches',
  'largest_choice',
  'last_token',
  'log_fbank',
  'log_mel',
  'make_step_table',
  'masked_mean',
  'max_tokens',
  'maxsim',
  'mean_tokens',
  'mel_filters',
  'positions_on_grids',
  'recent_keys',
  'relative_buckets',
  'resize_positions',
  'rotary',
  'rotary_frequencies',
  'same_blocks',
  'sample',
  'sample_each',
  'sample_positions',
  'sample_token',
  'sincos_1d',
  'sincos_2d',
  'sincos_grid',
  'sincos_numbers',
  'slerp',
  'spectral_distance',
  'take_patches',
  'unit_norm',
  'zero_masked',
]
