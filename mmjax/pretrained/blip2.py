"""BLIP-2 (Li et al. 2023), as Hugging Face publishes it.

A ViT encodes the image, a querying transformer summarises it in a few tokens,
and OPT or Flan-T5 writes the text.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  blip,
  configs,
  forms,
  generation_keys,
  generation_settings,
  keys,
  opt,
  sections,
  t5,
  vision_language,
)
from mmjax.types import Batch

_LANGUAGE = 'language_model.'
SKIP = (
  r'.*\.position_ids',
  *(f'language_model\\.{name}' for name in t5.SKIP),
)
# T5's `separate_head` is at the top level of the config.
TIES = (
  *(tie.add_prefix(_LANGUAGE, 'text_config') for tie in opt.TIES),
  *(tie.add_prefix(_LANGUAGE) for tie in t5.TIES),
)
COMPLETES = t5.COMPLETES

_DEFAULTS = {'num_query_tokens': 32, 'image_token_index': None}
_QUERIES = {
  'hidden_size': 768,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'intermediate_size': 3072,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'cross_attention_frequency': 2,
}
_VISION = {
  'hidden_size': 1408,
  'intermediate_size': 6144,
  'num_hidden_layers': 39,
  'num_attention_heads': 16,
  'image_size': 224,
  'patch_size': 14,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-6,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    irrelevant=('image_text_hidden_size', 'use_decoder_only_language_model'),
    aliases={'image_token_id': 'image_token_index'},
  ),
  'vision_config': sections.Section(
    read=_VISION,
    only={'num_channels': 3, 'qkv_bias': True},
    irrelevant=('projection_dim',),
  ),
  'qformer_config': sections.Section(
    read=_QUERIES,
    only={'use_qformer_text_input': False},
    irrelevant=('encoder_hidden_size', 'max_position_embeddings', 'vocab_size'),
  ),
  'text_config:opt': opt.SECTIONS[''],
  'text_config:t5': t5.SECTIONS[''],
}
_ATTENTION = {
  'query': 'attention.query',
  'key': 'attention.key',
  'value': 'attention.value',
  'out': 'output.dense',
}


class Model(vision_language.PublishedVisionLanguage):
  """BLIP-2.

  A prompt holds no placeholder: its image comes before the text.
  """

  image_defaults = blip.Model.image_defaults

  def caption(
    self, images: Any, prompt: str = '', **settings: Any
  ) -> list[str]:
    """Writes captions of images.

    Args:
      images: one image or several, as for `preprocess`.
      prompt: beginning of each caption; Flan-T5 needs 'a photo of'.
      **settings: further arguments of `generate`.
    """
    images = base.as_list(images)
    return self.generate(images, [prompt] * len(images), **settings)

  @functools.cached_property
  def generation_file(self) -> tuple[Mapping[str, Any], str]:
    """Special ids of `text_config`, the only settings that transformers uses.

    Raises:
      ConfigError: if generation_config.json has a setting that changes what is
        written.
    """
    generation_settings.refuse_unread(*super().generation_file)
    text = self.config.get('text_config') or {}
    ids = {key: text[key] for key in generation_keys.IDS if key in text}
    return ids, 'config.json'

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return {**_sections(self.config)[1], 'num_channels': 3}

  def tokens_per_image(self) -> int:
    """Number of tokens of an image."""
    return self.module.projector.number

  def tokenize_prompt(self, text: str, number: int) -> list[int]:
    """Ids of the placeholders, then those of the text."""
    image = self.module.placeholders[0]
    return [image] * number + self.tokenizer.encode(text).ids

  def decode(self, prompts: Sequence[Sequence[int]], written: Any) -> list[str]:
    """Decodes generated ids; Flan-T5 does not continue its prompt."""
    if self.module.encoder is not None:
      prompts = [[]] * len(prompts)
    return [text.strip() for text in super().decode(prompts, written)]


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes, for images of any size."""
  configs.architecture(config, 'Blip2ForConditionalGeneration')
  both, vision, queries = _sections(config)
  text = _text_config(config)
  image_id = both['image_token_index']
  language: dict[str, Any] = {}
  if _has_encoder(config):
    values = t5.read(text)
    language = {
      'encoder': t5.encoder(values, dtype),
      'decoder': t5.decoder(text, values, dtype),
      'bos_id': values['decoder_start_token_id'],
    }
  else:
    language = {'decoder': opt.decoder(text, dtype)}
  return models.InterleavedVisionLanguage(
    vision=blip.image_encoder(vision, dtype),
    projector=mnn.QueryTransformer(
      number=both['num_query_tokens'],
      width=queries['hidden_size'],
      depth=queries['num_hidden_layers'],
      num_heads=queries['num_attention_heads'],
      mlp_dim=queries['intermediate_size'],
      out_width=language['decoder'].width,
      cross_every=queries['cross_attention_frequency'],
      block={
        'norm_position': 'post',
        'activation': configs.activation(queries['hidden_act']),
        'norm_epsilon': queries['layer_norm_eps'],
      },
      dtype=dtype,
    ),
    # Older configs have none; -1 is not the id of any token.
    placeholders=(-1 if image_id is None else image_id,),
    **language,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision, _ = _sections(config)
  batch = dict(vision_language.inputs({**vision, 'num_channels': 3}))
  if _has_encoder(config):
    batch['answer'] = jax.ShapeDtypeStruct((1, 2), jnp.int32)
  return batch


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, queries = _sections(config)
  text = _text_config(config)
  if _has_encoder(config):
    language = t5.both_rules(t5.read(text))
  else:
    language = opt.rules(text)
  return [
    *keys.add_prefixes(blip.image_rules(vision), 'vision/', 'vision_model.'),
    keys.Rule('projector/queries', 'query_tokens', forms.Lead()),
    *keys.norm('projector/initial_norm', 'qformer.layernorm'),
    *_query_rules(queries),
    *keys.dense('projector/projection', 'language_projection'),
    *keys.add_prefixes(language, '', _LANGUAGE),
  ]


def _query_rules(queries: Mapping[str, Any]) -> list[keys.Rule]:
  out = []
  for i in range(queries['num_hidden_layers']):
    ours, theirs = f'projector/layers_{i}', f'qformer.encoder.layer.{i}'
    parts = {'attention': 'attention'}
    if i % queries['cross_attention_frequency'] == 0:
      parts['cross_attention'] = 'crossattention'
    for mine, their in parts.items():
      out += [
        *keys.attention(f'{ours}/{mine}', f'{theirs}.{their}', _ATTENTION),
        *keys.norm(f'{ours}/{mine}_norm', f'{theirs}.{their}.output.LayerNorm'),
      ]
    out += [
      *keys.dense(f'{ours}/mlp/up', f'{theirs}.intermediate_query.dense'),
      *keys.dense(f'{ours}/mlp/down', f'{theirs}.output_query.dense'),
      *keys.norm(f'{ours}/mlp_norm', f'{theirs}.output_query.LayerNorm'),
    ]
  return out


def _has_encoder(config: Mapping[str, Any]) -> bool:
  """Whether the language model has an encoder (T5) or not (OPT).

  Raises:
    ConfigError: if mmjax doesn't know the language model.
  """
  kind = (config.get('text_config') or {}).get('model_type', 'opt')
  if kind not in ('opt', 't5'):
    raise ConfigError(
      f"config.json: text_config.model_type is {kind!r}; mmjax knows 'opt' and "
      "'t5'"
    )
  return kind == 't5'


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config of the language model, with the completed fields."""
  text = dict(config.get('text_config') or {})
  return text | {name: config[name] for name in COMPLETES if name in config}


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  return (
    configs.section(config, '', _DEFAULTS),
    configs.section(config, 'vision_config', _VISION),
    configs.section(config, 'qformer_config', _QUERIES),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  ties=TIES,
  completed_fields=COMPLETES,
)
