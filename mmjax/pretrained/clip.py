"""CLIP (Radford et al. 2021), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import configs, keys
from mmjax.types import Batch

# Buffers that older versions of transformers saved.
SKIP = (r'.*\.position_ids',)

_TEXT = {
  'vocab_size': 49408,
  'hidden_size': 512,
  'intermediate_size': 2048,
  'num_hidden_layers': 12,
  'num_attention_heads': 8,
  'max_position_embeddings': 77,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}
_VISION = {
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
_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'out_proj',
}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes; texts are pooled at their end."""
  text = configs.section(config, 'text_config', _TEXT)
  vision = configs.section(config, 'vision_config', _VISION)
  return models.DualEncoder(
    image=encoders.ViT(
      patch_size=vision['patch_size'],
      class_token=True,
      pooling='first',
      patch_bias=False,
      pre_norm=True,
      **_tower(vision, dtype),
    ),
    text=encoders.Transformer(
      vocab_size=text['vocab_size'],
      max_length=text['max_position_embeddings'],
      causal=True,
      pooling='last',
      **_tower(text, dtype),
    ),
    embed_dim=configs.section(config, '', _BOTH)['projection_dim'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  text = configs.section(config, 'text_config', _TEXT)
  vision = configs.section(config, 'vision_config', _VISION)
  side, channels = vision['image_size'], vision['num_channels']
  return {
    'image': jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32),
    'text': jax.ShapeDtypeStruct(
      (1, text['max_position_embeddings']), jnp.int32
    ),
  }


def text_length(config: Mapping[str, Any]) -> int:
  """Most tokens of a text."""
  text = configs.section(config, 'text_config', _TEXT)
  return text['max_position_embeddings']


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  size = configs.section(config, 'vision_config', _VISION)['patch_size']
  return [
    *_blocks('text', 'text_model'),
    *_blocks('image', 'vision_model'),
    keys.Rule(
      'text/words/table/embedding',
      'text_model.embeddings.token_embedding.weight',
    ),
    keys.Rule(
      'text/words/position_table',
      'text_model.embeddings.position_embedding.weight',
    ),
    *keys.norm('text/last_norm', 'text_model.final_layer_norm'),
    keys.Rule(
      'image/patches/class_token',
      'vision_model.embeddings.class_embedding',
      keys.Same(flat=True),
    ),
    keys.Rule(
      'image/patches/positions_table',
      'vision_model.embeddings.position_embedding.weight',
    ),
    keys.Rule(
      'image/patches/projection/kernel',
      'vision_model.embeddings.patch_embedding.weight',
      keys.Patches(size),
    ),
    # Their spelling.
    *keys.norm('image/initial_norm', 'vision_model.pre_layrnorm'),
    *keys.norm('image/last_norm', 'vision_model.post_layernorm'),
    *keys.dense('image_projection/projection', 'visual_projection', bias=False),
    *keys.dense('text_projection/projection', 'text_projection', bias=False),
    keys.Rule('scale/log_scale', 'logit_scale'),
  ]


def _tower(config: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  return {
    'width': config['hidden_size'],
    'depth': config['num_hidden_layers'],
    'num_heads': config['num_attention_heads'],
    'mlp_dim': config['intermediate_size'],
    'block': {
      'activation': configs.activation(config['hidden_act']),
      'norm_epsilon': config['layer_norm_eps'],
    },
    'dtype': dtype,
  }


def _blocks(ours: str, theirs: str) -> list[keys.Rule]:
  ours, theirs = (
    f'{ours}/blocks/layers',
    f'{theirs}.encoder.layers.{keys.LAYER}',
  )
  return [
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.layer_norm1'),
    *keys.attention(f'{ours}/attention', f'{theirs}.self_attn', _ATTENTION),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.layer_norm2'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.mlp.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.mlp.fc2'),
  ]
