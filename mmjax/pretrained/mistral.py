"""Mistral (Jiang et al. 2023), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
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

_DEFAULTS = {
  **llamas.DEFAULTS,
  'intermediate_size': 14336,
  'num_key_value_heads': 8,
  'max_position_embeddings': 131072,
  'sliding_window': None,
}
_WINDOW = 4096  # Where the file doesn't say.
SECTIONS = {'': llamas.SECTION.join(sections.Section(read=_DEFAULTS))}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a window that is shorter than the longest text (the first
      version's; later ones have none).
  """
  configs.architecture(config, 'MistralForCausalLM')
  values = configs.section(config, '', _DEFAULTS)
  longest = values['max_position_embeddings']
  window = config.get('sliding_window', _WINDOW)
  if window is not None and window < longest:
    raise ConfigError(
      f'config.json: sliding_window is {window}, less than '
      f'max_position_embeddings {longest}; mmjax reads only models whose '
      'tokens attend to all before them. For texts of at most that length, set '
      'max_position_embeddings to it'
    )
  return models.LanguageModel(llamas.decoder(values, config, dtype))


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
