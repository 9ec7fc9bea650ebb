"""The audio spectrogram transformer, AST (Gong et al. 2021), as published."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import base, classifiers, configs, forms, keys, sections
from mmjax.types import Batch

PREFIXES = ('audio_spectrogram_transformer.',)

_DEFAULTS = {
  'hidden_size': 768,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'intermediate_size': 3072,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'patch_size': 16,
  'qkv_bias': True,
  'frequency_stride': 10,
  'time_stride': 10,
  'max_length': 1024,
  'num_mel_bins': 128,
}
SECTIONS = {'': sections.Section(read=_DEFAULTS)}
UNUSED = {
  'ASTForAudioClassification': (),
  'ASTModel': (r'classifier\.(layernorm|dense)\.(weight|bias)',),
}
_ATTENTION = {
  'query': 'attention.query',
  'key': 'attention.key',
  'value': 'attention.value',
  'out': 'output.dense',
}


class Model(classifiers.PublishedAudioEncoder):
  """AST."""


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes."""
  values = configs.section(config, '', _DEFAULTS)
  labels = configs.labels(config)
  return models.Classifier(
    encoder=encoders.SpectrogramTransformer(
      width=values['hidden_size'],
      depth=values['num_hidden_layers'],
      num_heads=values['num_attention_heads'],
      mlp_dim=values['intermediate_size'],
      patch_size=values['patch_size'],
      strides=(values['frequency_stride'], values['time_stride']),
      num_bands=values['num_mel_bins'],
      block={
        'activation': configs.activation(values['hidden_act']),
        'norm_epsilon': values['layer_norm_eps'],
        'attention_bias': _bias(values),
      },
      dtype=dtype,
    ),
    num_classes=len(labels) if _has_classifier(config) else 0,
    modality='spectrogram',
    norm_epsilon=values['layer_norm_eps'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = configs.section(config, '', _DEFAULTS)
  shape = (1, values['max_length'], values['num_mel_bins'])
  return {'spectrogram': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = configs.section(config, '', _DEFAULTS)
  block, layer = 'encoder/blocks/layers', f'encoder.layer.{keys.LAYER}'
  patches = 'embeddings.patch_embeddings.projection'
  tables = {
    'class_token': 'cls_token',
    'distillation_token': 'distillation_token',
    'position_table': 'position_embeddings',
  }
  encoder = [
    *(
      keys.Rule(f'encoder/patches/{ours}', f'embeddings.{theirs}', forms.Lead())
      for ours, theirs in tables.items()
    ),
    keys.Rule(
      'encoder/patches/projection/kernel',
      f'{patches}.weight',
      forms.Convolution(),
    ),
    keys.Rule('encoder/patches/projection/bias', f'{patches}.bias'),
    *keys.norm(f'{block}/attention_norm', f'{layer}.layernorm_before'),
    *keys.attention(
      f'{block}/attention',
      f'{layer}.attention',
      _ATTENTION,
      bias=_bias(values),
    ),
    *keys.norm(f'{block}/mlp_norm', f'{layer}.layernorm_after'),
    *keys.dense(f'{block}/mlp/up', f'{layer}.intermediate.dense'),
    *keys.dense(f'{block}/mlp/down', f'{layer}.output.dense'),
    *keys.norm('encoder/last_norm', 'layernorm'),
  ]
  if not _has_classifier(config):
    return encoder
  return [
    *keys.add_prefixes(encoder, '', PREFIXES[0]),
    *keys.norm('classifier_norm', 'classifier.layernorm'),
    *keys.dense('classifier', 'classifier.dense'),
  ]


def _bias(values: Mapping[str, Any]) -> bool | tuple[str, ...]:
  return True if values['qkv_bias'] else ('out',)


def _has_classifier(config: Mapping[str, Any]) -> bool:
  """Whether the checkpoint has a classifier."""
  name = configs.architecture(config, *UNUSED)
  return name == 'ASTForAudioClassification'


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  prefixes=PREFIXES,
)
