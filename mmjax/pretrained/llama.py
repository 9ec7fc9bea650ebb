"""Llama (Touvron et al. 2023), as Hugging Face publishes it."""

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
  llamas,
  sections,
)
from mmjax.types import Batch

DEFAULTS = {**llamas.DEFAULTS, 'attention_bias': False, 'mlp_bias': False}
SECTIONS = {'': llamas.SECTION.join(sections.Section(read=DEFAULTS))}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'LlamaForCausalLM')
  return models.LanguageModel(decoder(config, dtype))


def decoder(config: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, from a config or the part of one that is Llama's."""
  values = configs.section(config, '', DEFAULTS)
  biases = {name: values[name] for name in ('attention_bias', 'mlp_bias')}
  return llamas.decoder(values, config, dtype, block=biases)


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return keys.add_prefixes(decoder_rules(config), 'decoder/', '')


def decoder_rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the decoder."""
  values = configs.section(config, '', DEFAULTS)
  return llamas.rules(
    tied=values['tie_word_embeddings'],
    attention_bias=values['attention_bias'],
    mlp_bias=values['mlp_bias'],
  )


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
