"""CLIP (Radford et al. 2021), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import configs, dual_encoders, forms, keys, towers
from mmjax.types import Batch

# Buffers that older versions of transformers saved.
SKIP = (r'.*\.position_ids',)
PREFIXES = ('clip.',)

TEXT = {
  'vocab_size': 49408,
  'hidden_size': 512,
  'intermediate_size': 2048,
  'num_hidden_layers': 12,
  'num_attention_heads': 8,
  'max_position_embeddings': 77,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}
VISION = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'num_channels': 3,
  'image_size': 224,
  'patch_size': 32,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}
_BOTH = {'projection_dim': 512}


class Model(dual_encoders.DualEncoder):
  """CLIP; texts are read up to their end."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'shortest_edge': 224},
    'crop_size': {'height': 224, 'width': 224},
    'do_center_crop': True,
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes; texts are pooled at their end."""
  text, vision = _sections(config)
  return models.DualEncoder(
    image=image(vision, dtype),
    text=texts(text, dtype),
    embed_dim=configs.section(config, '', _BOTH)['projection_dim'],
    dtype=dtype,
  )


def texts(text: Mapping[str, Any], dtype: Any) -> encoders.Transformer:
  """The text tower alone, of the fields of `TEXT`."""
  return encoders.Transformer(
    vocab_size=text['vocab_size'],
    max_length=text['max_position_embeddings'],
    causal=True,
    pooling='last',
    **towers.settings(text, dtype),
  )


def image(
  vision: Mapping[str, Any], dtype: Any, **settings: Any
) -> encoders.ViT:
  """The image tower alone, of the fields of `VISION`."""
  return encoders.ViT(
    patch_size=vision['patch_size'],
    class_token=True,
    pooling='first',
    patch_bias=False,
    pre_norm=True,
    **towers.settings(vision, dtype),
    **settings,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return towers.inputs(*_sections(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision = _sections(config)
  return [
    *towers.text_rules(),
    *keys.prefixed(
      image_rules(vision['patch_size']), 'image/', 'vision_model.'
    ),
    *keys.dense('image_projection/projection', 'visual_projection', bias=False),
    *keys.dense('text_projection/projection', 'text_projection', bias=False),
    keys.Rule('scale/log_scale', 'logit_scale'),
  ]


def image_rules(patch_size: int) -> list[keys.Rule]:
  """The key table of the image tower alone, without prefixes."""
  return [
    *towers.image_rules(patch_size),
    keys.Rule(
      'patches/class_token',
      'embeddings.class_embedding',
      forms.Same(flat=True),
    ),
    # Their spelling.
    *keys.norm('initial_norm', 'pre_layrnorm'),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict]:
  return (
    configs.section(config, 'text_config', TEXT),
    configs.section(config, 'vision_config', VISION),
  )
