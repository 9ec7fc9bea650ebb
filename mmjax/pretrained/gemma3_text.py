"""Gemma 3 for texts (Gemma Team 2025), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import decoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  keys,
  language_models,
  llamas,
  sections,
)
from mmjax.types import Batch

DEFAULTS = {
  'vocab_size': 262208,
  'hidden_size': 2304,
  'intermediate_size': 9216,
  'num_hidden_layers': 26,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 256,
  'hidden_activation': 'gelu_pytorch_tanh',
  'max_position_embeddings': 131072,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': True,
  'attention_bias': False,
  'query_pre_attn_scalar': 256,
}
# One layer in so many attends to all tokens before it.
_PATTERN = {'sliding_window_pattern': 6}
SECTION = sections.Section(
  read=(
    *DEFAULTS,
    *_PATTERN,
    *sections.ROTARY,
    'layer_types',
    'rope_local_base_freq',
    'sliding_window',
  ),
  only={
    'attn_logit_softcapping': None,
    'final_logit_softcapping': None,
    'use_bidirectional_attention': False,
  },
  irrelevant=('_sliding_window_pattern',),
)
SECTIONS = {'': SECTION}
_ROPES = ('full_attention', 'sliding_attention')


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'Gemma3ForCausalLM', 'Gemma3TextModel')
  return models.LanguageModel(decoder(config, dtype))


def decoder(section: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, from a config or the part of one that is Gemma 3's.

  Raises:
    ConfigError: for a value that mmjax doesn't read.
  """
  values = read(section)
  every = configs.section(section, '', _PATTERN)['sliding_window_pattern']
  kinds = [
    llamas.SLIDING if (i + 1) % every else llamas.FULL
    for i in range(values['num_hidden_layers'])
  ]
  windows = llamas.find_windows(values, section, kinds)
  rotary, local = _read_rotary(section)
  return llamas.decoder(
    {**values, 'hidden_act': values['hidden_activation']},
    section,
    dtype,
    block={
      'norm': 'offset_rmsnorm',
      'norm_position': 'sandwich',
      'qk_norm': 'offset_rmsnorm',
      'attention_bias': values['attention_bias'],
      'attention_scale': values['query_pre_attn_scalar'] ** -0.5,
      'local_rope': local if windows else None,
    },
    rotary=rotary,
    windows=windows,
    embed_scale=values['hidden_size'] ** 0.5,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return keys.add_prefixes(decoder_rules(config), 'decoder/', '')


def decoder_rules(section: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the decoder."""
  values = read(section)
  return llamas.rules(
    tied=values['tie_word_embeddings'],
    attention_bias=values['attention_bias'],
    qk_norm=True,
    sandwich=True,
  )


def read(section: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of `DEFAULTS`, of a config or a part of one."""
  return configs.section(section, '', DEFAULTS)


def _read_rotary(section: Mapping[str, Any]) -> tuple[dict, dict]:
  """Rotary positions of `mmjax.nn.Block`: of all layers, and of local ones."""
  ropes = section.get('rope_parameters') or {}
  unknown = sorted(set(ropes) - set(_ROPES))
  if unknown:
    raise ConfigError(
      f'config.json: rope_parameters has {", ".join(unknown)}; of this family '
      f'mmjax reads one part for each of {", ".join(_ROPES)}'
    )
  whole, local = (ropes.get(name) or {} for name in _ROPES)
  rest = {
    key: value
    for key, value in section.items()
    if key in ('partial_rotary_factor', 'rope_theta')
  }
  scaling = section.get('rope_scaling') or {}
  rotary = configs.rotary_settings(
    {**rest, 'rope_parameters': {**whole, **scaling}}, 1e6
  )
  rest['rope_theta'] = section.get('rope_local_base_freq', 1e4)
  of_local = configs.rotary_settings({**rest, 'rope_parameters': local})
  return rotary, {
    'theta': of_local['rope_theta'],
    **(of_local['rope'] or {}),
  }


FAMILY = base.Family(
  model_class=language_models.PublishedLanguageModel,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=llamas.SKIP,
  prefixes=llamas.PREFIXES,
  ties=llamas.TIES,
)
