"""Qwen2-VL (Wang et al. 2024), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import base, configs, keys, qwen_vl, sections
from mmjax.types import Batch

_VISION = {
  'depth': 32,
  'embed_dim': 1280,
  'hidden_size': 3584,
  'hidden_act': 'quick_gelu',
  'mlp_ratio': 4.0,
  'num_heads': 16,
  'patch_size': 14,
  'spatial_merge_size': 2,
  'temporal_patch_size': 2,
}
SECTIONS = {
  **qwen_vl.SECTIONS,
  'vision_config': qwen_vl.VISION_SECTION.join(sections.Section(read=_VISION)),
}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'Qwen2VLForConditionalGeneration')
  vision = qwen_vl.vision_section(config, _VISION)
  encoder = encoders.PackedViT(
    width=vision['embed_dim'],
    depth=vision['depth'],
    num_heads=vision['num_heads'],
    mlp_dim=int(vision['embed_dim'] * vision['mlp_ratio']),
    out_width=vision['hidden_size'],
    merge_size=vision['spatial_merge_size'],
    patch_size=vision['patch_size'],
    temporal_patch_size=vision['temporal_patch_size'],
    block={'activation': configs.activation(vision['hidden_act'])},
    dtype=dtype,
  )
  return qwen_vl.model(config, encoder, dtype)


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return qwen_vl.inputs(qwen_vl.vision_section(config, _VISION))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  vision = qwen_vl.vision_section(config, _VISION)
  mlp = {'up': 'fc1', 'down': 'fc2'}
  tied = qwen_vl.read_text(config)['tie_word_embeddings']
  return qwen_vl.rules(vision, mlp, tied=tied, norm_bias=True)


FAMILY = base.Family(
  model_class=qwen_vl.QwenVL,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=qwen_vl.SKIP,
  aliases=qwen_vl.ALIASES,
  ties=qwen_vl.TIES,
)
