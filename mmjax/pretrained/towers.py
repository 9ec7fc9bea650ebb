"""What the towers of CLIP and SigLIP have in common."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.pretrained import configs, keys
from mmjax.types import Batch

_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'out_proj',
}


def settings(config: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """Arguments of `ViT` and `Transformer`, of one tower's section."""
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


def inputs(text: Mapping[str, Any], vision: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  side, channels = vision['image_size'], vision['num_channels']
  length = text['max_position_embeddings']
  return {
    'image': jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32),
    'text': jax.ShapeDtypeStruct((1, length), jnp.int32),
  }


def rules(patch_size: int) -> list[keys.Rule]:
  """Blocks, embeddings and last norms of both towers."""
  text, vision = 'text_model.embeddings', 'vision_model.embeddings'
  return [
    *_blocks('text', 'text_model'),
    *_blocks('image', 'vision_model'),
    keys.Rule('text/words/table/embedding', f'{text}.token_embedding.weight'),
    keys.Rule('text/words/position_table', f'{text}.position_embedding.weight'),
    *keys.norm('text/last_norm', 'text_model.final_layer_norm'),
    keys.Rule(
      'image/patches/positions_table', f'{vision}.position_embedding.weight'
    ),
    keys.Rule(
      'image/patches/projection/kernel',
      f'{vision}.patch_embedding.weight',
      keys.Patches(patch_size),
    ),
    *keys.norm('image/last_norm', 'vision_model.post_layernorm'),
  ]


def _blocks(ours: str, theirs: str) -> list[keys.Rule]:
  ours = f'{ours}/blocks/layers'
  theirs = f'{theirs}.encoder.layers.{keys.LAYER}'
  return [
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.layer_norm1'),
    *keys.attention(f'{ours}/attention', f'{theirs}.self_attn', _ATTENTION),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.layer_norm2'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.mlp.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.mlp.fc2'),
  ]
