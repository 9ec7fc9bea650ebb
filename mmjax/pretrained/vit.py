"""The vision transformer (Dosovitskiy et al. 2021), as published."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, classifiers, configs, forms, keys, sections
from mmjax.types import Batch

SKIP = ()
UNUSED = {
  'ViTModel': (r'classifier\.(weight|bias)',),
  'ViTForImageClassification': (r'vit\.pooler\.dense\.(weight|bias)',),
}
PREFIXES = ('vit.',)
COMPLETES = ('add_pooling_layer',)

_DEFAULTS = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'num_channels': 3,
  'image_size': 224,
  'patch_size': 16,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'qkv_bias': True,
  'pooler_act': 'tanh',
  'add_pooling_layer': True,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'pooler_output_size'), irrelevant=('encoder_stride',)
  )
}
LAYER = f'encoder.layer.{keys.LAYER}'
BLOCK = 'encoder/blocks/layers'


class Model(classifiers.PublishedImageEncoder):
  """ViT; the pooled vector is the class token, or the pooler's output."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'height': 224, 'width': 224},
    'resample': 2,
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }


def complete(
  config: Mapping[str, Any], names: Collection[str]
) -> Mapping[str, Any]:
  """Adds `add_pooling_layer=False` where the tensors hold no pooler."""
  poolers = {'pooler.dense.weight', 'pooler.dense.bias'}
  if has_classifier(config) or not poolers.isdisjoint(names):
    return config
  return {**config, 'add_pooling_layer': False}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes, for images of any size."""
  values = _read(config)
  has_pooler = values['add_pooling_layer'] and not has_classifier(config)
  return models.Classifier(
    encoder=encoders.ViT(
      pool_activation=configs.activation(values['pooler_act'])
      if has_pooler
      else None,
      mlp_dim=values['intermediate_size'],
      block=block(values),
      **settings(values),
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if has_classifier(config) else 0,
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return images(_read(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  trunk = [
    *embedding_rules(values),
    *attention_rules(values),
    *block_rules(),
  ]
  if has_classifier(config):
    return [
      *keys.add_prefixes(trunk, '', PREFIXES[0]),
      *keys.dense('classifier', 'classifier'),
    ]
  pooler = keys.dense('encoder/pooler', 'pooler.dense')
  return [*trunk, *(pooler if values['add_pooling_layer'] else [])]


def has_classifier(config: Mapping[str, Any]) -> bool:
  """Whether the checkpoint has a classifier."""
  name = configs.architecture(config, *UNUSED)
  return name == 'ViTForImageClassification'


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of `encoders.ViT` that ViT and DINOv2 have in common."""
  side = values['image_size'] // values['patch_size']
  return {
    'patch_size': values['patch_size'],
    'width': values['hidden_size'],
    'depth': values['num_hidden_layers'],
    'num_heads': values['num_attention_heads'],
    'position_grid': (side, side),
    'class_token': True,
    'pooling': 'first',
    'ragged': True,
  }


def block(values: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of `mmjax.nn.Block` for ViT and DINOv2."""
  return {
    'activation': configs.activation(values['hidden_act']),
    'norm_epsilon': values['layer_norm_eps'],
    'attention_bias': True if values['qkv_bias'] else ('out',),
  }


def images(values: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  side, channels = values['image_size'], values['num_channels']
  return {'image': jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)}


def embedding_rules(values: Mapping[str, Any]) -> list[keys.Rule]:
  """Rules of the patches, the class token, positions and the last norm."""
  theirs = 'embeddings.patch_embeddings.projection'
  return [
    keys.Rule(
      'encoder/patches/projection/kernel',
      f'{theirs}.weight',
      forms.Patches(values['patch_size']),
    ),
    keys.Rule('encoder/patches/projection/bias', f'{theirs}.bias'),
    keys.Rule(
      'encoder/patches/class_token', 'embeddings.cls_token', forms.Lead()
    ),
    keys.Rule(
      'encoder/patches/positions_table',
      'embeddings.position_embeddings',
      forms.Lead(),
    ),
    *keys.norm('encoder/last_norm', 'layernorm'),
  ]


def block_rules() -> list[keys.Rule]:
  """Rules of the blocks' norms and MLPs."""
  return [
    *keys.norm(f'{BLOCK}/attention_norm', f'{LAYER}.layernorm_before'),
    *keys.norm(f'{BLOCK}/mlp_norm', f'{LAYER}.layernorm_after'),
    *keys.dense(f'{BLOCK}/mlp/up', f'{LAYER}.intermediate.dense'),
    *keys.dense(f'{BLOCK}/mlp/down', f'{LAYER}.output.dense'),
  ]


def attention_rules(values: Mapping[str, Any]) -> list[keys.Rule]:
  """Rules of the attention layers."""
  ours, theirs = f'{BLOCK}/attention', f'{LAYER}.attention'
  rules = keys.dense(f'{ours}/out', f'{theirs}.output.dense', inputs=2)
  for name in ('query', 'key', 'value'):
    rules += keys.dense(
      f'{ours}/{name}', f'{theirs}.attention.{name}', bias=values['qkv_bias']
    )
  return rules


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section(config, '', _DEFAULTS)
  size = config.get('pooler_output_size') or values['hidden_size']
  if size != values['hidden_size']:
    raise ConfigError(
      f'config.json: pooler_output_size is {size}; mmjax reads only '
      f'hidden_size, {values["hidden_size"]}, here'
    )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  skip=SKIP,
  prefixes=PREFIXES,
  completed_fields=COMPLETES,
  complete=complete,
)
