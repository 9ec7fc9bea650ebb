"""PaliGemma (Beyer et al. 2024) and PaliGemma 2 (Steiner et al. 2024).

As Hugging Face publishes them.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import decoders, models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  gemma2,
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
  'text_config:gemma2': gemma2.SECTION.join(
    sections.Section(
      only={'model_type': 'gemma2', 'use_bidirectional_attention': True},
      irrelevant=('num_image_tokens',),
    )
  ),
  'text_config:gemma': sections.Section(
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
  return models.InterleavedVisionLanguage(
    vision=siglip.image_encoder(vision, dtype),
    projector=mnn.Linear(text['hidden_size'], dtype=dtype),
    decoder=_decoder(config, text, dtype),
    placeholders=(both['image_token_index'],),
    prefix_lm=True,
  )


def _decoder(
  config: Mapping[str, Any], text: Mapping[str, Any], dtype: Any
) -> decoders.TextDecoder:
  section = config.get('text_config') or {}
  if _has_gemma2(config):
    return gemma2.decoder(section, dtype)
  # Older releases say gelu, but the model has always used the approximation.
  act = text['hidden_act']
  text = {**text, 'hidden_act': 'gelu_pytorch_tanh' if act == 'gelu' else act}
  return llamas.decoder(
    text,
    section,
    dtype,
    block={'norm': 'offset_rmsnorm'},
    embed_scale=text['hidden_size'] ** 0.5,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision, _ = _sections(config)
  return vision_language.inputs(vision)


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, text = _sections(config)
  if _has_gemma2(config):
    table = gemma2.decoder_rules(config['text_config'])
  else:
    table = llamas.rules(tied=text['tie_word_embeddings'])
  return [
    *keys.add_prefixes(siglip.image_rules(vision), 'vision/', 'vision_tower.'),
    *keys.dense('projector/dense', 'multi_modal_projector.linear'),
    *keys.add_prefixes(table, 'decoder/', 'language_model.'),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  both = configs.section(config, '', _DEFAULTS)
  if _has_gemma2(config):
    values = gemma2.read(config['text_config'])
  else:
    values = configs.section(config, 'text_config', _TEXT)
  width = values['hidden_size']
  if both['projection_dim'] != width:
    raise ConfigError(
      f'config.json: projection_dim is {both["projection_dim"]}, but '
      f'text_config.hidden_size {width}; mmjax reads only equal ones'
    )
  return both, configs.section(config, 'vision_config', _VISION), values


def _has_gemma2(config: Mapping[str, Any]) -> bool:
  """Whether it is a PaliGemma 2, whose decoder is Gemma 2's.

  Raises:
    ConfigError: for another decoder.
  """
  kind = (config.get('text_config') or {}).get('model_type', 'gemma')
  if kind not in ('gemma', 'gemma2'):
    raise ConfigError(
      f'config.json: text_config.model_type is {kind!r}; mmjax knows gemma and '
      'gemma2'
    )
  return kind == 'gemma2'


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
