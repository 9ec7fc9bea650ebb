"""Every key of transformers' configs is known here, with its default."""

import dataclasses

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from mmjax.pretrained import families, generation_keys

# Parts whose class a config names by its `model_type`.
AUTO = {
  'internvl.text_config': transformers.Qwen2Config,
  'idefics3.text_config': transformers.LlamaConfig,
  'smolvlm.text_config': transformers.LlamaConfig,
  'gemma3.text_config': transformers.Gemma3TextConfig,
  'janus.text_config': transformers.LlamaConfig,
  'gemma3.vision_config': transformers.SiglipVisionConfig,
  'llava.text_config': transformers.LlamaConfig,
  'llava_onevision.text_config': transformers.Qwen2Config,
  'llava_onevision.vision_config': transformers.SiglipVisionConfig,
  'llava.vision_config': transformers.CLIPVisionConfig,
  'qwen2_audio.text_config': transformers.Qwen2Config,
  'qwen2_audio.audio_config': transformers.Qwen2AudioEncoderConfig,
  'paligemma.text_config:gemma': transformers.GemmaConfig,
  'paligemma.text_config:gemma2': transformers.Gemma2Config,
  'paligemma.vision_config': transformers.SiglipVisionConfig,
  'blip-2.text_config:opt': transformers.OPTConfig,
  'blip-2.text_config:t5': transformers.T5Config,
}
# What is read there as it is published, not as a config that is silent.
PUBLISHED = {
  # PaliGemma sets it where a config is silent.
  ('paligemma.text_config:gemma', 'use_bidirectional_attention'),
  ('paligemma.text_config:gemma2', 'use_bidirectional_attention'),
}


def classes():
  """The class of each part of each family's config, and its keys here."""
  for kind in families.FAMILIES:
    family = families.find({'model_type': kind})
    whole = CONFIG_MAPPING[kind]
    for name, section in family.sections.items():
      parts = getattr(whole, 'sub_configs', None) or {}
      where = f'{kind}.{name}' if name else kind
      if not name:
        yield where, whole, section
      elif where in AUTO:
        yield where, AUTO[where], section
      else:
        yield where, parts[name], section


CLASSES = {where: rest for where, *rest in classes()}


def defaults(config):
  out = {}
  for field in dataclasses.fields(config):
    if field.default is not dataclasses.MISSING:
      out[field.name] = field.default
    elif field.default_factory is not dataclasses.MISSING:
      out[field.name] = field.default_factory()
  return out


@pytest.mark.parametrize('where', CLASSES)
def test_every_field_is_known_and_has_the_default(where):
  config, section = CLASSES[where]
  parts = {
    name.partition(':')[0]
    for name in families.find({'model_type': where.partition('.')[0]}).sections
  }
  fields = defaults(config)
  assert set(fields) - section.known_keys() <= parts
  assert set(config.attribute_map) <= section.known_keys()
  for key, value in section.required_values().items():
    if key in fields and (where, key) not in PUBLISHED:
      assert fields[key] in (value, None), key


def test_every_setting_of_writing_is_known():
  known = {*generation_keys.KEYS, *generation_keys.IRRELEVANT}
  assert set(transformers.GenerationConfig().to_dict()) <= known
  silent = transformers.GenerationConfig._get_default_generation_params()
  only = {
    **generation_keys.ONLY,
    **generation_keys.ONLY_SAMPLING,
    **generation_keys.ONLY_BEAMS,
  }
  for key, values in only.items():
    assert silent.get(key) in (None, *values), key
