"""PaliGemma (Beyer et al. 2024), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  keys,
  llamas,
  sections,
  siglip,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)

_DEFAULTS = {'image_token_index': 256000, 'projection_dim': 2048}
_TEXT = {
  **llamas.DEFAULTS,
  'vocab_size': 257152,
  'hidden_size': 2048,
  'intermediate_size': 16384,
  'num_hidden_layers': 18,
  'num_attention_heads': 8,
  'num_key_value_heads': 1,
  'head_dim': 256,
  'hidden_act': 'gelu_pytorch_tanh',
  'max_position_embeddings': 8192,
  'tie_word_embeddings': True,
}
_VISION = {
  **siglip.VISION,
  'hidden_size': 1152,
  'intermediate_size': 4096,
  'num_hidden_layers': 27,
  'num_attention_heads': 16,
  'patch_size': 14,
  'vision_use_head': False,
}

SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'tie_word_embeddings'),
    irrelevant=(
      '_vocab_size',
      'hidden_size',
      'ignore_index',
      'num_hidden_layers',
      'num_image_tokens',
      'vocab_size',
    ),
    aliases={'image_token_id': 'image_token_index'},
  ),
  'text_config': sections.Section(
    read=(*_TEXT, *sections.ROTARY, *llamas.WINDOWS),
    only={
      'attention_bias': False,
      'hidden_activation': 'gelu_pytorch_tanh',
      'model_type': 'gemma',
      'use_bidirectional_attention': True,
    },
    irrelevant=('num_image_tokens',),
  ),
  'vision_config': siglip.VISION_SECTION.join(
    sections.Section(
      only={'model_type': 'siglip_vision_model'},
      irrelevant=('num_image_tokens', 'projection_dim', 'projector_hidden_act'),
    )
  ),
}


class Model(vision_language.PublishedVisionLanguage):
  """PaliGemma.

  A prompt holds no placeholder: its images come before the text.
  """

  image_defaults = siglip.Model.image_defaults

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]

  def tokenize_prompt(self, text: str, number: int) -> list[int]:
    """Ids of the placeholders, the start, and the text with its newline."""
    begin = self.special_id('bos_token_id')
    image = self.module.placeholders[0]
    words = self.tokenizer.encode(f'{text}\n', add_special_tokens=False).ids
    return [image] * number + [begin] + words


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'PaliGemmaForConditionalGeneration')
  both, vision, text = _sections(config)
  width = text['hidden_size']
  # Older releases say gelu, but the model has always used the approximation.
  if text['hidden_act'] == 'gelu':
    text['hidden_act'] = 'gelu_pytorch_tanh'
  return models.InterleavedVisionLanguage(
    vision=siglip.image_encoder(vision, dtype),
    projector=mnn.Linear(width, dtype=dtype),
    decoder=llamas.decoder(
      text,
      config.get('text_config') or {},
      dtype,
      block={'norm': 'offset_rmsnorm'},
      embed_scale=width**0.5,
    ),
    placeholders=(both['image_token_index'],),
    prefix=True,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision, _ = _sections(config)
  return vision_language.inputs(vision)


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, text = _sections(config)
  table = llamas.rules(tied=text['tie_word_embeddings'])
  return [
    *keys.add_prefixes(siglip.image_rules(vision), 'vision/', 'vision_tower.'),
    *keys.dense('projector/dense', 'multi_modal_projector.linear'),
    *keys.add_prefixes(table, 'decoder/', 'language_model.'),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  both = configs.section(config, '', _DEFAULTS)
  values = configs.section(config, 'text_config', _TEXT)
  width = values['hidden_size']
  if both['projection_dim'] != width:
    raise ConfigError(
      f'config.json: projection_dim is {both["projection_dim"]}, but '
      f'text_config.hidden_size {width}; mmjax reads only equal ones'
    )
  return both, configs.section(config, 'vision_config', _VISION), values


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
