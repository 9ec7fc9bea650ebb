"""The families of published models, by `model_type` of config.json."""

import importlib
from collections.abc import Mapping
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import base

# Module of this package, and the name of its family; imported when needed.
FAMILIES = {
  'align': 'align:FAMILY',
  'bert': 'bert:FAMILY',
  'blip': 'blip:FAMILY',
  'blip-2': 'blip2:FAMILY',
  'audio-spectrogram-transformer': 'audio_spectrogram_transformer:FAMILY',
  'clip': 'clip:FAMILY',
  'clip_text_model': 'single_towers:CLIP_TEXTS',
  'clip_vision_model': 'single_towers:CLIP_IMAGES',
  'dinov2': 'dinov2:FAMILY',
  'dinov2_with_registers': 'dinov2:FAMILY',
  'encodec': 'encodec:FAMILY',
  'gemma2': 'gemma2:FAMILY',
  'gemma3': 'gemma3:FAMILY',
  'gemma3_text': 'gemma3_text:FAMILY',
  'gpt2': 'gpt2:FAMILY',
  'idefics3': 'idefics3:FAMILY',
  'internvl': 'internvl:FAMILY',
  'janus': 'janus:FAMILY',
  'janus_vqgan': 'janus_vqvae:FAMILY',
  'llama': 'llama:FAMILY',
  'llava': 'llava:FAMILY',
  'llava_onevision': 'llava_onevision:FAMILY',
  'mistral': 'mistral:FAMILY',
  'opt': 'opt:FAMILY',
  'paligemma': 'paligemma:FAMILY',
  'qwen2': 'qwen2:FAMILY',
  'qwen2_5_omni_thinker': 'qwen2_5_omni:FAMILY',
  'qwen2_5_vl': 'qwen2_5_vl:FAMILY',
  'qwen2_audio': 'qwen2_audio:FAMILY',
  'qwen2_vl': 'qwen2_vl:FAMILY',
  'qwen3': 'qwen3:FAMILY',
  'qwen3_vl': 'qwen3_vl:FAMILY',
  'resnet': 'resnet:FAMILY',
  'siglip': 'siglip:FAMILY',
  'siglip2': 'siglip2:FAMILY',
  'siglip_text_model': 'single_towers:SIGLIP_TEXTS',
  'siglip_vision_model': 'single_towers:SIGLIP_IMAGES',
  'smolvlm': 'idefics3:FAMILY',
  't5': 't5:FAMILY',
  'videomae': 'videomae:FAMILY',
  'vit': 'vit:FAMILY',
  'whisper': 'whisper:FAMILY',
}
# The same of models of diffusers, by `_class_name` of config.json.
DIFFUSERS = {
  'AutoencoderKL': 'autoencoder_kl:FAMILY',
  'DiTTransformer2DModel': 'dit:FAMILY',
  'PixArtTransformer2DModel': 'pixart:FAMILY',
  'PriorTransformer': 'prior_transformer:FAMILY',
  'SD3Transformer2DModel': 'sd3:FAMILY',
  'VQModel': 'vq_model:FAMILY',
}
# Models of several, of which one is read: `model_type` -> its part of
# config.json, and its class of transformers.
WHOLES = {
  'qwen2_5_omni': (
    'thinker_config',
    'Qwen2_5OmniThinkerForConditionalGeneration',
  ),
}


def take_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """The config of the model that is read, of the config of several.

  Raises:
    ConfigError: if a config of several lacks that of the model.
  """
  kind = config.get('model_type')
  if not isinstance(kind, str) or kind not in WHOLES:
    return config
  part, name = WHOLES[kind]
  if not isinstance(config.get(part), dict):
    raise ConfigError(
      f'config.json: there is no {part}, which describes the part of a {kind} '
      'that mmjax reads; take the published file'
    )
  # Published files name older classes.
  return {**config[part], 'architectures': [name]}


def find(config: Mapping[str, Any]) -> base.Family:
  """Finds the family of a config.json.

  Raises:
    ConfigError: if mmjax does not know the `model_type`, or the `_class_name`
      of a model of diffusers.
  """
  key, table = 'model_type', FAMILIES
  if is_diffusers(config):
    key, table = '_class_name', DIFFUSERS
  kind = config.get(key)
  if not isinstance(kind, str) or kind not in table:
    known = {*table, *WHOLES} if table is FAMILIES else table
    raise ConfigError(
      f'config.json: {key} is {kind!r}; mmjax knows {sorted(known)}'
    )
  module, _, name = table[kind].partition(':')
  return getattr(importlib.import_module(f'mmjax.pretrained.{module}'), name)


def is_diffusers(config: Mapping[str, Any]) -> bool:
  """Whether a config.json is that of a model of diffusers."""
  return 'model_type' not in config and '_class_name' in config


def name_kind(config: Mapping[str, Any]) -> str:
  """What a config.json says of its kind, for messages."""
  return str(
    config.get('_class_name' if is_diffusers(config) else 'model_type')
  )
