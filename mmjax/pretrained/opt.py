"""OPT (Zhang et al. 2022), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import decoders, models
from mmjax.pretrained import (
  base,
  configs,
  keys,
  language_models,
  names,
  sections,
)
from mmjax.types import Batch

# Prefix that Meta's checkpoints lack.
PREFIXES = ('model.',)
TIES = (names.head_tie('model.decoder.embed_tokens.weight'),)


DEFAULTS = {
  'vocab_size': 50272,
  'hidden_size': 768,
  'num_hidden_layers': 12,
  'ffn_dim': 3072,
  'num_attention_heads': 12,
  'max_position_embeddings': 2048,
  'activation_function': 'relu',
  'tie_word_embeddings': True,
}
SECTIONS = {
  '': sections.Section(
    read=(*DEFAULTS, 'word_embed_proj_dim'),
    only={
      'do_layer_norm_before': True,
      '_remove_final_layer_norm': False,
      'enable_bias': True,
      'layer_norm_elementwise_affine': True,
    },
    irrelevant=('output_projection',),
  )
}
_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'out_proj',
}
# Index of the first token's position in the table of positions.
_FIRST = 2


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'OPTForCausalLM')
  return models.LanguageModel(decoder(config, dtype))


def decoder(config: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, without `LanguageModel` around it."""
  values = read(config)
  return decoders.TextDecoder(
    vocab_size=values['vocab_size'],
    width=values['hidden_size'],
    depth=values['num_hidden_layers'],
    num_heads=values['num_attention_heads'],
    mlp_dim=values['ffn_dim'],
    max_length=values['max_position_embeddings'],
    first_position=_FIRST,
    cross_attention=False,
    tied=values['tie_word_embeddings'],
    block={
      'activation': configs.activation(
        values['activation_function'], 'activation_function'
      ),
      'norm_epsilon': 1e-5,
    },
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return keys.add_prefixes(decoder_rules(config), 'decoder/', '')


def decoder_rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the decoder."""
  ours, theirs = 'blocks/layers', f'model.decoder.layers.{keys.LAYER}'
  out = [
    keys.Rule('words/table/embedding', 'model.decoder.embed_tokens.weight'),
    keys.Rule('words/position_table', 'model.decoder.embed_positions.weight'),
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.self_attn_layer_norm'),
    *keys.attention(f'{ours}/attention', f'{theirs}.self_attn', _ATTENTION),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.final_layer_norm'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.fc2'),
    *keys.norm('last_norm', 'model.decoder.final_layer_norm'),
  ]
  if not read(config)['tie_word_embeddings']:
    out += keys.dense('head', 'lm_head', bias=False)
  return out


def read(config: Mapping[str, Any]) -> dict[str, Any]:
  """Reads the fields of `DEFAULTS`.

  Raises:
    ConfigError: for a value that mmjax doesn't know, such as those of OPT 350M,
      which normalises after its blocks and has embeddings of another width.
  """
  values = configs.section(config, '', DEFAULTS)
  if config.get('word_embed_proj_dim') is not None:
    configs.refuse(config, word_embed_proj_dim=values['hidden_size'])
  return values


FAMILY = base.Family(
  model_class=language_models.PublishedLanguageModel,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  prefixes=PREFIXES,
  ties=TIES,
)
