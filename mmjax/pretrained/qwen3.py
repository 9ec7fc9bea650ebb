"""Qwen3 (Yang et al. 2025), as Hugging Face publishes it."""

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
  qwen2,
  sections,
)
from mmjax.types import Batch

_DEFAULTS = {**qwen2.DEFAULTS, 'head_dim': 128, 'attention_bias': False}
SECTIONS = {'': llamas.SECTION.join(sections.Section(read=_DEFAULTS))}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  configs.architecture(config, 'Qwen3ForCausalLM')
  values = configs.section(config, '', _DEFAULTS)
  block = {'attention_bias': values['attention_bias'], 'qk_norm': 'rmsnorm'}
  return models.LanguageModel(
    llamas.decoder(
      values,
      config,
      dtype,
      block=block,
      windows=qwen2.windows(values, config),
    )
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = configs.section(config, '', _DEFAULTS)
  table = llamas.rules(
    tied=values['tie_word_embeddings'],
    attention_bias=values['attention_bias'],
    qk_norm=True,
  )
  return keys.add_prefixes(table, 'decoder/', '')


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
