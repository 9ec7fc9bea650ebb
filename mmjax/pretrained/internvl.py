"""InternVL 3 (Zhu et al. 2025), as Hugging Face publishes it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import encoders, models
from mmjax import nn as mnn
from mmjax.data import tiles as tiles_lib
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  forms,
  keys,
  llamas,
  preprocess,
  qwen2,
  sections,
  siglip,
  tiles,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)

_DEFAULTS = {
  'image_token_id': 151667,
  'downsample_ratio': 0.5,
  'projector_hidden_act': 'gelu',
  'tie_word_embeddings': True,
}
_VISION = {
  'hidden_size': 1024,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
  'attention_bias': False,
  'intermediate_size': 4096,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-6,
  'num_channels': 3,
  'use_mean_pooling': True,
}
# Integers, or both sides of a square.
_SQUARES = {'image_size': 448, 'patch_size': 14}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    only={
      'vision_feature_layer': -1,
      'vision_feature_select_strategy': 'default',
    },
    irrelevant=('image_seq_length',),
  ),
  'text_config': qwen2.SECTIONS[''].join(
    sections.Section(only={'model_type': 'qwen2'})
  ),
  'vision_config': sections.Section(
    read=(*_VISION, *_SQUARES, 'layer_scale_init_value'),
    only={
      'model_type': 'internvl_vision',
      'norm_type': 'layer_norm',
      'use_absolute_position_embeddings': True,
      'use_mask_token': False,
      'use_qk_norm': False,
    },
    irrelevant=('projection_dropout',),
  ),
}
PREPROCESS = preprocess.SECTION.join(
  sections.Section(
    read=('max_patches', 'min_patches'),
    # The processor always cuts images.
    irrelevant=('crop_to_patches',),
  )
)
_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'projection_layer',
}


class Model(tiles.PublishedTiles):
  """InternVL; `<IMG_CONTEXT>` in a prompt is the placeholder of an image.

  An image is read as tiles in the ratio of its sides and, if there are several,
  as a whole.
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
    'size': {'height': 384, 'width': 384},
    'min_patches': 1,
    'max_patches': 12,
  }

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> tiles.TilePreprocessor:
    """Makes the preprocessor that cuts images into tiles."""
    pixels = tiles.read_pixels(settings, cls.image_defaults, PREPROCESS, file)
    settings = {**cls.image_defaults, **settings}
    least, most = settings['min_patches'], settings['max_patches']
    if type(least) is not int or type(most) is not int or not 0 < least <= most:
      raise ConfigError(
        f'{file}: min_patches is {least!r} and max_patches {most!r}; mmjax '
        'reads integers above 0, the second not below the first'
      )
    size = tiles.read_sides(settings, 'size', file)
    cutter = tiles_lib.RatioCutter(size, least, most, resample=pixels.resample)
    return tiles.TilePreprocessor(
      cutter, dataclasses.replace(pixels, size=size)
    )

  @property
  def cutter(self) -> tiles_lib.RatioCutter:
    """Cuts images, and writes the text of their tiles."""
    tokens = {
      name: self.tokenizer_config.get(f'{name}_image_token', default)
      for name, default in (('start', '<img>'), ('end', '</img>'))
    }
    return dataclasses.replace(self.preprocessor.cutter, **tokens)

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
    return (_find_side(vision) // _find_factor(both)) ** 2


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: for tiles whose patches don't make whole squares.
  """
  configs.architecture(config, 'InternVLForConditionalGeneration')
  both, vision, text = _sections(config)
  side, factor = _find_side(vision), _find_factor(both)
  if side % factor:
    raise ConfigError(
      f'config.json: downsample_ratio is {both["downsample_ratio"]}, but the '
      f'{side} patches of a side of vision_config.image_size are not divisible '
      f'by {factor}'
    )
  width = qwen2.read(text)['hidden_size']
  return models.InterleavedVisionLanguage(
    vision=encoders.ViT(
      patch_size=vision['patch_size'],
      width=vision['hidden_size'],
      depth=vision['num_hidden_layers'],
      num_heads=vision['num_attention_heads'],
      mlp_dim=vision['intermediate_size'],
      class_token=True,
      pooling='first',
      final_norm=not vision['use_mean_pooling'],
      block={
        'activation': configs.activation(vision['hidden_act']),
        'attention_bias': True if vision['attention_bias'] else ('out',),
        'norm_epsilon': vision['layer_norm_eps'],
        'layer_scale': 0.1,
      },
      dtype=dtype,
    ),
    projector=mnn.PixelShuffle(
      width,
      factor,
      mlp_dim=width,
      activation=configs.activation(
        both['projector_hidden_act'], 'projector_hidden_act'
      ),
      norm='layernorm',
      norm_epsilon=1e-5,
      dtype=dtype,
    ),
    decoder=qwen2.decoder(text, dtype),
    placeholders=(both['image_token_id'],),
    skipped=1,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return vision_language.inputs(_sections(config)[1])


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, text = _sections(config)
  theirs = 'multi_modal_projector'
  return [
    *keys.add_prefixes(_image_rules(vision), 'vision/', 'vision_tower.'),
    *keys.norm('projector/norm', f'{theirs}.layer_norm'),
    *keys.dense('projector/mlp/up', f'{theirs}.linear_1'),
    *keys.dense('projector/mlp/down', f'{theirs}.linear_2'),
    *keys.add_prefixes(
      qwen2.decoder_rules(text), 'decoder/', 'language_model.'
    ),
  ]


def _image_rules(vision: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the image tower, without prefixes."""
  patches = 'embeddings.patch_embeddings.projection'
  ours, layer = 'blocks/layers', f'encoder.layer.{keys.LAYER}'
  table = [
    keys.Rule(
      'patches/projection/kernel',
      f'{patches}.weight',
      forms.Patches(vision['patch_size']),
    ),
    keys.Rule('patches/projection/bias', f'{patches}.bias'),
    keys.Rule('patches/class_token', 'embeddings.cls_token', forms.Lead()),
    keys.Rule(
      'patches/positions_table', 'embeddings.position_embeddings', forms.Lead()
    ),
    *keys.attention(
      f'{ours}/attention',
      f'{layer}.attention',
      _ATTENTION,
      bias=True if vision['attention_bias'] else ('out',),
    ),
    *keys.dense(f'{ours}/mlp/up', f'{layer}.mlp.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{layer}.mlp.fc2'),
  ]
  for name, norm, number in (
    ('attention', 'layernorm_before', 1),
    ('mlp', 'layernorm_after', 2),
  ):
    table += [
      *keys.norm(f'{ours}/{name}_norm', f'{layer}.{norm}'),
      keys.Rule(f'{ours}/{name}_scale', f'{layer}.lambda_{number}'),
    ]
  if not vision['use_mean_pooling']:
    table += keys.norm('last_norm', 'layernorm')
  return table


def _find_side(vision: Mapping[str, Any]) -> int:
  return vision['image_size'] // vision['patch_size']


def _find_factor(both: Mapping[str, Any]) -> int:
  ratio = both['downsample_ratio']
  if not 0 < ratio <= 1:
    raise ConfigError(
      f'config.json: downsample_ratio is {ratio}; mmjax reads numbers above 0 '
      'and up to 1'
    )
  return int(1 / ratio)


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  both = configs.section(config, '', _DEFAULTS)
  text = dict(config.get('text_config') or {})
  text['tie_word_embeddings'] = both['tie_word_embeddings']
  vision = dict(config.get('vision_config') or {})
  for name in _SQUARES:
    sides = vision.get(name)
    # Both sides of a square, as one.
    if isinstance(sides, list) and len(sides) == 2 and sides[0] == sides[1]:
      vision[name] = sides[0]
  fields = {**_VISION, **_SQUARES}
  whole = {'vision_config': vision}
  return both, configs.section(whole, 'vision_config', fields), text


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
