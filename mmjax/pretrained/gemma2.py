"""Gemma 2 (Riviere et al. 2024), as Hugging Face publishes it."""

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
  'vocab_size': 256000,
  'hidden_size': 2304,
  'intermediate_size': 9216,
  'num_hidden_layers': 26,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 256,
  'hidden_activation': 'gelu_pytorch_tanh',
  'max_position_embeddings': 8192,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': True,
  'attention_bias': False,
  'query_pre_attn_scalar': 256,
}
# Limits of logits; null for none.
_CAPS = {'attn_logit_softcapping': 50.0, 'final_logit_softcapping': 30.0}
SECTION = sections.Section(
  read=(
    *DEFAULTS,
    *_CAPS,
    *sections.ROTARY,
    'layer_types',
    'sliding_window',
  ),
  # Written by older releases, which don't read it.
  irrelevant=('hidden_act',),
)
SECTIONS = {
  '': SECTION.join(
    sections.Section(only={'use_bidirectional_attention': False})
  )
}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'Gemma2ForCausalLM')
  return models.LanguageModel(decoder(config, dtype))


def decoder(section: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, from a config or the part of one that is Gemma 2's.

  Raises:
    ConfigError: for a value that mmjax doesn't read.
  """
  values = read(section)
  # Every other layer is local, the first one too.
  kinds = [
    llamas.FULL if i % 2 else llamas.SLIDING
    for i in range(values['num_hidden_layers'])
  ]
  attention, logits = (_read_cap(section, name) for name in _CAPS)
  return llamas.decoder(
    {**values, 'hidden_act': values['hidden_activation']},
    section,
    dtype,
    block={
      'norm': 'offset_rmsnorm',
      'norm_position': 'sandwich',
      'attention_bias': values['attention_bias'],
      'attention_scale': values['query_pre_attn_scalar'] ** -0.5,
      'attention_softcap': attention,
    },
    windows=llamas.find_windows(values, section, kinds),
    embed_scale=values['hidden_size'] ** 0.5,
    logit_softcap=logits,
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
    sandwich=True,
  )


def read(section: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of `DEFAULTS`, of a config or a part of one."""
  return configs.section(section, '', DEFAULTS)


def _read_cap(section: Mapping[str, Any], name: str) -> float | None:
  value = section.get(name, _CAPS[name])
  if value is not None and (
    type(value) not in (int, float) or not 0 < value < float('inf')
  ):
    raise ConfigError(
      f'config.json: {name} is {value!r}; mmjax reads a number above 0, or '
      'null, here'
    )
  return value


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
