"""Idefics3 and SmolVLM (Laurençon et al. 2024; Marafioti et al. 2025)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.data import tiles as tiles_lib
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  keys,
  llama,
  llamas,
  names,
  preprocess,
  sections,
  siglip,
  tiles,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)

_DEFAULTS = {
  'image_token_id': 128257,
  'scale_factor': 2,
  'tie_word_embeddings': False,
}
# The keys of SigLIP's tower, which has no head here.
_VISION = {
  **{k: v for k, v in siglip.VISION.items() if k != 'vision_use_head'},
  'hidden_size': 1152,
  'num_attention_heads': 16,
  'patch_size': 32,
}
_SEPARATE = {'tie_word_embeddings': False}
TIES = (
  names.Tie(
    'model.text_model.embed_tokens.weight',
    'lm_head.weight',
    {**_SEPARATE, 'text_config': _SEPARATE},
  ),
)
PREPROCESS = preprocess.SECTION.join(
  sections.Section(
    read=('do_image_splitting', 'max_image_size'),
    irrelevant=('do_pad', 'return_row_col_info', 'video_sampling'),
  )
)
# Settings of images and of other architectures, as published configs have them.
_TEXT_SECTION = llama.SECTIONS[''].join(
  sections.Section(
    only={
      'model_type': 'llama',
      'qk_layer_norms': False,
      'use_resampler': False,
    },
    irrelevant=(
      'neftune_noise_alpha',
      'perceiver_config',
      'pixel_shuffle_factor',
    ),
  )
)


SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    irrelevant=('_pad_token_id', 'use_reentrant_checkpointing', 'vocab_size'),
  ),
  'text_config': _TEXT_SECTION,
  'vision_config': sections.Section(
    read=_VISION,
    irrelevant=('max_image_size', 'size', 'use_base_siglip'),
  ),
}


class Model(tiles.PublishedTiles):
  """Idefics3 and SmolVLM; `<image>` in a prompt is the placeholder of an image.

  A large image is read as tiles and as a whole, each with its tokens.
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
    'resample': 1,
    'size': {'longest_edge': 4 * 364},
    'max_image_size': {'longest_edge': 364},
  }

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> tiles.TilePreprocessor:
    """Makes the preprocessor that cuts images into tiles."""
    pixels = tiles.read_pixels(settings, cls.image_defaults, PREPROCESS, file)
    settings = {**cls.image_defaults, **settings}
    side = tiles.read_side(settings, 'max_image_size', file)
    cutter = tiles_lib.SideCutter(
      (side, side),
      longest=tiles.read_side(settings, 'size', file)
      if settings.get('do_resize', True)
      else 0,
      splits=settings.get('do_image_splitting', True),
      resample=pixels.resample,
    )
    return tiles.TilePreprocessor(
      cutter, dataclasses.replace(pixels, size=cutter.size)
    )

  @property
  def placeholder(self) -> str:
    """The placeholder of an image in a prompt."""
    return self.tokenizer.id_to_token(self.module.placeholders[0])

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]

  def tokens_per_image(self) -> int:
    """Number of tokens of a tile."""
    both, vision, _ = _sections(self.config)
    return (_find_side(vision) // both['scale_factor']) ** 2


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: for tiles whose patches don't make whole squares.
  """
  configs.architecture(
    config,
    'Idefics3ForConditionalGeneration',
    'SmolVLMForConditionalGeneration',
  )
  both, vision, text = _sections(config)
  side, factor = _find_side(vision), both['scale_factor']
  if side % factor:
    raise ConfigError(
      f'config.json: scale_factor is {factor}, which does not divide the '
      f'{side} patches of a side of vision_config.image_size'
    )
  return models.InterleavedVisionLanguage(
    vision=siglip.image_encoder({**vision, 'vision_use_head': False}, dtype),
    projector=mnn.PixelShuffle(
      text['hidden_size'], factor, use_bias=False, dtype=dtype
    ),
    decoder=llama.decoder(text, dtype),
    placeholders=(both['image_token_id'],),
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return vision_language.inputs(_sections(config)[1])


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, text = _sections(config)
  tower = siglip.image_rules({**vision, 'vision_use_head': False})
  decoder = [
    dataclasses.replace(
      rule, theirs=rule.theirs.replace('model.', 'model.text_model.', 1)
    )
    for rule in llama.decoder_rules(text)
  ]
  return [
    *keys.add_prefixes(tower, 'vision/', 'model.vision_model.'),
    *keys.dense(
      'projector/linear/dense',
      'model.connector.modality_projection.proj',
      bias=False,
    ),
    *keys.add_prefixes(decoder, 'decoder/', ''),
  ]


def _find_side(vision: Mapping[str, Any]) -> int:
  return vision['image_size'] // vision['patch_size']


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  both = configs.section(config, '', _DEFAULTS)
  text = dict(config.get('text_config') or {'rms_norm_eps': 1e-5})
  text['tie_word_embeddings'] = both['tie_word_embeddings']
  return (
    both,
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
  ties=TIES,
)
