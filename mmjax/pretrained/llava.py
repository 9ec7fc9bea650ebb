"""LLaVA 1.5 (Liu et al. 2024), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  clip,
  configs,
  keys,
  llama,
  llamas,
  sections,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*clip.SKIP, *llamas.SKIP)

_DEFAULTS = {
  'image_token_index': 32000,
  'projector_hidden_act': 'gelu',
  'vision_feature_select_strategy': 'default',
  'vision_feature_layer': -2,
  'multimodal_projector_bias': True,
}
_VISION = {
  **clip.VISION,
  'hidden_size': 1024,
  'intermediate_size': 4096,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
  'image_size': 336,
  'patch_size': 14,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'tie_word_embeddings'),
    irrelevant=('ignore_index', 'image_seq_length', 'vocab_size'),
    aliases={'image_token_id': 'image_token_index'},
  ),
  'text_config': llama.SECTIONS[''].join(
    sections.Section(only={'model_type': 'llama'})
  ),
  'vision_config': clip.VISION_SECTION.join(
    sections.Section(only={'model_type': 'clip_vision_model'})
  ),
}
# Strategy -> number of tokens before the patches that it leaves out.
_SKIPPED = {'default': 1, 'full': 0}


class Model(vision_language.PublishedVisionLanguage):
  """LLaVA; `<image>` in a prompt is the placeholder of an image."""

  image_defaults = clip.Model.image_defaults

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'LlavaForConditionalGeneration')
  both, vision, text = _sections(config)
  width = text['hidden_size']
  strategy = both['vision_feature_select_strategy']
  if strategy not in _SKIPPED:
    raise ConfigError(
      f'config.json: vision_feature_select_strategy is {strategy!r}; mmjax '
      f'knows {sorted(_SKIPPED)}'
    )
  return models.InterleavedVisionLanguage(
    vision=clip.image_encoder(
      vision, dtype, layer=both['vision_feature_layer']
    ),
    projector=mnn.Mlp(
      width,
      width,
      activation=configs.activation(
        both['projector_hidden_act'], 'projector_hidden_act'
      ),
      use_bias=both['multimodal_projector_bias'],
      dtype=dtype,
    ),
    decoder=llama.decoder(text, dtype),
    placeholders=(both['image_token_index'],),
    skipped=_SKIPPED[strategy],
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision, _ = _sections(config)
  return vision_language.inputs(vision)


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  both, vision, text = _sections(config)
  theirs, bias = 'multi_modal_projector', both['multimodal_projector_bias']
  return [
    *keys.add_prefixes(
      clip.image_rules(vision['patch_size']), 'vision/', 'vision_tower.'
    ),
    *keys.dense('projector/up', f'{theirs}.linear_1', bias=bias),
    *keys.dense('projector/down', f'{theirs}.linear_2', bias=bias),
    *keys.add_prefixes(
      llama.decoder_rules(text), 'decoder/', 'language_model.'
    ),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  text = llamas.read_text_config(config)
  return (
    configs.section(config, '', _DEFAULTS),
    configs.section(config, 'vision_config', _VISION),
    text | configs.section(text, '', llama.DEFAULTS),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  aliases=vision_language.ALIASES,
  ties=vision_language.TIES,
)
