"""Settings and key tables that CLIP and SigLIP have in common."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.pretrained import configs, forms, keys
from mmjax.types import Batch

_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'out_proj',
}


def settings(config: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """Arguments of `ViT` and `Transformer`, from one tower's section."""
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


def text_rules(ours: str = 'text/') -> list[keys.Rule]:
  """The key table of the text tower; `ours` is its path."""
  table = [
    *_blocks(),
    keys.Rule('words/table/embedding', 'embeddings.token_embedding.weight'),
    keys.Rule('words/position_table', 'embeddings.position_embedding.weight'),
    *keys.norm('last_norm', 'final_layer_norm'),
  ]
  return keys.add_prefixes(table, ours, 'text_model.')


def image_rules(patch_size: int) -> list[keys.Rule]:
  """The key table of an image tower without its pooling and prefixes."""
  return [
    *_blocks(),
    keys.Rule(
      'patches/positions_table', 'embeddings.position_embedding.weight'
    ),
    keys.Rule(
      'patches/projection/kernel',
      'embeddings.patch_embedding.weight',
      forms.Patches(patch_size),
    ),
    *keys.norm('last_norm', 'post_layernorm'),
  ]


def _blocks() -> list[keys.Rule]:
  ours = 'blocks/layers'
  theirs = f'encoder.layers.{keys.LAYER}'
  return [
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.layer_norm1'),
    *keys.attention(f'{ours}/attention', f'{theirs}.self_attn', _ATTENTION),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.layer_norm2'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.mlp.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.mlp.fc2'),
  ]
