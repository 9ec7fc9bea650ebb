"""Gemma 3 for images and texts (Gemma Team 2025), as Hugging Face has it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  gemma3_text,
  interleaved,
  keys,
  llamas,
  preprocess,
  sections,
  siglip,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)

_DEFAULTS = {
  'image_token_index': 262144,
  'boi_token_index': 255999,
  'eoi_token_index': 256000,
  'mm_tokens_per_image': 256,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'tie_word_embeddings'),
    aliases={
      'image_token_id': 'image_token_index',
      'boi_token_id': 'boi_token_index',
      'eoi_token_id': 'eoi_token_index',
    },
  ),
  'text_config': gemma3_text.SECTION.join(
    sections.Section(only={'model_type': 'gemma3_text'})
  ),
  'vision_config': siglip.VISION_SECTION.join(
    sections.Section(only={'model_type': 'siglip_vision_model'})
  ),
}
PREPROCESS = preprocess.SECTION.join(
  sections.Section(
    only={'do_pan_and_scan': False},
    irrelevant=(
      'pan_and_scan_max_num_crops',
      'pan_and_scan_min_crop_size',
      'pan_and_scan_min_ratio_to_activate',
    ),
  )
)


class Model(vision_language.PublishedVisionLanguage):
  """Gemma 3; `<start_of_image>` in a prompt is the placeholder of an image.

  It is read as in transformers: between two empty lines, and followed by the
  image's tokens and `<end_of_image>`.
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    **siglip.Model.image_defaults,
    'resample': 2,
  }

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> preprocess.ImagePreprocessor:
    """Makes the preprocessor of images."""
    return preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults, PREPROCESS, file
    )

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]

  def tokens_per_image(self) -> int:
    """Number of tokens of an image."""
    return _sections(self.config)[0]['mm_tokens_per_image']

  @classmethod
  def read_expansion(
    cls,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    find_token: Callable[[int], str | None],
  ) -> interleaved.PlaceholderExpansion:
    """The three tokens of an image, between empty lines."""
    del tokenizer_config
    both = _sections(config)[0]
    tokens = []
    for name in ('boi_token_index', 'image_token_index', 'eoi_token_index'):
      token = find_token(both[name])
      if token is None:
        raise ConfigError(
          f'config.json: {name} is {both[name]}, which is not an id of the '
          'tokenizer; take both files from one model'
        )
      tokens.append(token)
    return interleaved.PlaceholderExpansion(
      tokens[0], ('\n\n', *tokens, '\n\n')
    )


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a number of tokens of an image that its patches don't make.
  """
  configs.architecture(config, 'Gemma3ForConditionalGeneration')
  both, vision, text = _sections(config)
  patches = vision['image_size'] // vision['patch_size']
  side = math.isqrt(both['mm_tokens_per_image'])
  if side**2 != both['mm_tokens_per_image'] or patches % side:
    raise ConfigError(
      f'config.json: mm_tokens_per_image is {both["mm_tokens_per_image"]}, but '
      f'the {patches} x {patches} patches of an image do not make as many '
      'equal squares'
    )
  return models.InterleavedVisionLanguage(
    vision=siglip.image_encoder(vision, dtype),
    projector=mnn.AveragePool(
      gemma3_text.read(text)['hidden_size'],
      patches // side,
      norm='offset_rmsnorm',
      norm_epsilon=vision['layer_norm_eps'],
      dtype=dtype,
    ),
    decoder=gemma3_text.decoder(text, dtype),
    placeholders=(both['image_token_index'],),
    image_blocks=True,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision, _ = _sections(config)
  return vision_language.inputs(vision)


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, text = _sections(config)
  theirs = 'multi_modal_projector.mm_'
  return [
    *keys.add_prefixes(siglip.image_rules(vision), 'vision/', 'vision_tower.'),
    *keys.norm('projector/norm', f'{theirs}soft_emb_norm', bias=False),
    keys.Rule(
      'projector/linear/dense/kernel', f'{theirs}input_projection_weight'
    ),
    *keys.add_prefixes(
      gemma3_text.decoder_rules(text), 'decoder/', 'language_model.'
    ),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  text = dict(config.get('text_config') or {})
  if config.get('tie_word_embeddings') is False:
    text['tie_word_embeddings'] = False
  return (
    configs.section(config, '', _DEFAULTS),
    configs.section(config, 'vision_config', siglip.VISION),
    text,
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
