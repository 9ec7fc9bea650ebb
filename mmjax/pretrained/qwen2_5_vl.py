"""Qwen2.5-VL (Bai et al. 2025), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import base, configs, keys, qwen_vl, sections
from mmjax.types import Batch

VISION = {
  'depth': 32,
  'hidden_size': 3584,
  'hidden_act': 'silu',
  'intermediate_size': 3420,
  'num_heads': 16,
  'patch_size': 14,
  'spatial_merge_size': 2,
  'temporal_patch_size': 2,
  'tokens_per_second': 4,
  'window_size': 112,
  'out_hidden_size': 3584,
  'fullatt_block_indexes': [7, 15, 23, 31],
}
MLP = {name: f'{name}_proj' for name in ('gate', 'up', 'down')}
SECTIONS = {
  **qwen_vl.SECTIONS,
  'vision_config': qwen_vl.VISION_SECTION.join(sections.Section(read=VISION)),
}


class Model(qwen_vl.QwenVL):
  """Qwen2.5-VL, whose positions in videos follow the time.

  Attributes:
    frames_per_second: frame rate of the videos.
  """

  frames_per_second: ClassVar[float] = 2.0

  @property
  def video_interval(self) -> float:
    vision = qwen_vl.vision_section(self.config, VISION)
    seconds = vision['temporal_patch_size'] / self.frames_per_second
    return self.read_tokens_per_second(self.config) * seconds

  @classmethod
  def read_tokens_per_second(cls, config: Mapping[str, Any]) -> float:
    vision = qwen_vl.vision_section(config, VISION)
    return float(vision['tokens_per_second'])


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'Qwen2_5_VLForConditionalGeneration')
  vision = qwen_vl.vision_section(config, VISION)
  return qwen_vl.model(config, encoder(vision, dtype), dtype)


def encoder(vision: Mapping[str, Any], dtype: Any) -> encoders.PackedViT:
  """The vision encoder; `vision` has the fields of `VISION`."""
  whole = set(vision['fullatt_block_indexes'])
  return encoders.PackedViT(
    width=vision['hidden_size'],
    depth=vision['depth'],
    num_heads=vision['num_heads'],
    mlp_dim=vision['intermediate_size'],
    out_width=vision['out_hidden_size'],
    merge_size=vision['spatial_merge_size'],
    patch_size=vision['patch_size'],
    temporal_patch_size=vision['temporal_patch_size'],
    window=vision['window_size']
    // (vision['patch_size'] * vision['spatial_merge_size']),
    window_layers=tuple(i for i in range(vision['depth']) if i not in whole),
    block={
      'norm': 'rmsnorm',
      'activation': configs.activation(vision['hidden_act']),
      'gated': True,
    },
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return qwen_vl.inputs(qwen_vl.vision_section(config, VISION))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  vision = qwen_vl.vision_section(config, VISION)
  tied = qwen_vl.read_text(config)['tie_word_embeddings']
  return qwen_vl.rules(vision, MLP, tied=tied, norm_bias=False)


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=qwen_vl.SKIP,
  aliases=qwen_vl.ALIASES,
  ties=qwen_vl.TIES,
)
