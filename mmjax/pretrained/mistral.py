"""Mistral (Jiang et al. 2023), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.pretrained import (
  base,
  configs,
  keys,
  language_models,
  llamas,
  sections,
)
from mmjax.types import Batch

_DEFAULTS = {
  **llamas.DEFAULTS,
  'intermediate_size': 14336,
  'num_key_value_heads': 8,
  'max_position_embeddings': 131072,
}
SECTIONS = {'': llamas.SECTION.join(sections.Section(read=_DEFAULTS))}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'MistralForCausalLM')
  values = configs.section(config, '', _DEFAULTS)
  windows = llamas.find_windows(
    values, config, [llamas.SLIDING] * values['num_hidden_layers']
  )
  return models.LanguageModel(
    llamas.decoder(values, config, dtype, windows=windows)
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  tied = configs.section(config, '', _DEFAULTS)['tie_word_embeddings']
  return keys.add_prefixes(llamas.rules(tied=tied), 'decoder/', '')


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
