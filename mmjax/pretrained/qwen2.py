"""Qwen2 and Qwen2.5 (Yang et al. 2024), as Hugging Face publishes them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import decoders, models
from mmjax.pretrained import base, configs, keys, language_models, llamas
from mmjax.types import Batch

DEFAULTS = {
  **llamas.DEFAULTS,
  'vocab_size': 151936,
  'intermediate_size': 22016,
  'num_key_value_heads': 32,
  'max_position_embeddings': 32768,
}
SECTIONS = {'': llamas.SECTION}
BIAS = ('query', 'key', 'value')


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'Qwen2ForCausalLM')
  return models.LanguageModel(decoder(config, dtype))


def decoder(section: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, from a config or the part of one that is Qwen2's."""
  values = read(section)
  return llamas.decoder(
    values,
    section,
    dtype,
    block={'attention_bias': BIAS},
    windows=windows(values, section),
  )


def read(section: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of `DEFAULTS`, of a config or a part of one."""
  return configs.section(section, '', DEFAULTS)


def windows(
  values: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Settings of the decoder, whose upper layers may have sliding windows.

  Args:
    values: the fields of `DEFAULTS`.
    config: all of config.json.

  Returns:
    The settings; None where the config turns windows off.
  """
  if not config.get('use_sliding_window'):
    return None
  first = config.get('max_window_layers', 28)
  depth = values['num_hidden_layers']
  kinds = [llamas.SLIDING if i >= first else llamas.FULL for i in range(depth)]
  return llamas.find_windows(values, config, kinds)


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return keys.add_prefixes(decoder_rules(config), 'decoder/', '')


def decoder_rules(section: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the decoder."""
  tied = read(section)['tie_word_embeddings']
  return llamas.rules(tied=tied, attention_bias=BIAS)


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
