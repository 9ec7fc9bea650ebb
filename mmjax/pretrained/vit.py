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
  """ViT; its pooled vector is the class token, or the pooler's of it."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'height': 224, 'width': 224},
    'resample': 2,
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }


def complete(
  config: Mapping[str, Any], names: Collection[str]
) -> Mapping[str, Any]:
  """Adds that there is no pooler, which config.json does not say."""
  poolers = {'pooler.dense.weight', 'pooler.dense.bias'}
  if classifies(config) or not poolers.isdisjoint(names):
    return config
  return {**config, 'add_pooling_layer': False}


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes, for images of any size."""
  read = _read(config)
  has_pooler = read['add_pooling_layer'] and not classifies(config)
  return models.Classifier(
    encoder=encoders.ViT(
      pool_activation=configs.activation(read['pooler_act'])
      if has_pooler
      else None,
      mlp_dim=read['intermediate_size'],
      block=block(read),
      **settings(read),
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if classifies(config) else 0,
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return images(_read(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  read = _read(config)
  trunk = [
    *embedding_rules(read),
    *attention_rules(read),
    *block_rules(),
  ]
  if classifies(config):
    return [
      *keys.prefixed(trunk, '', PREFIXES[0]),
      *keys.dense('classifier', 'classifier'),
    ]
  pooler = keys.dense('encoder/pooler', 'pooler.dense')
  return [*trunk, *(pooler if read['add_pooling_layer'] else [])]


def classifies(config: Mapping[str, Any]) -> bool:
  """Whether the checkpoint has a classifier."""
  name = configs.architecture(config, *UNUSED)
  return name == 'ViTForImageClassification'


def settings(read: Mapping[str, Any]) -> dict[str, Any]:
  """What the transformers of this kind's `encoders.ViT` have in common."""
  side = read['image_size'] // read['patch_size']
  return {
    'patch_size': read['patch_size'],
    'width': read['hidden_size'],
    'depth': read['num_hidden_layers'],
    'num_heads': read['num_attention_heads'],
    'position_grid': (side, side),
    'class_token': True,
    'pooling': 'first',
    'ragged': True,
  }


def block(read: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of `mmjax.nn.Block`."""
  return {
    'activation': configs.activation(read['hidden_act']),
    'norm_epsilon': read['layer_norm_eps'],
    'attention_bias': True if read['qkv_bias'] else ('out',),
  }


def images(read: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  side, channels = read['image_size'], read['num_channels']
  return {'image': jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)}


def embedding_rules(read: Mapping[str, Any]) -> list[keys.Rule]:
  """Rules of the patches, the class token, positions and the last norm."""
  theirs = 'embeddings.patch_embeddings.projection'
  return [
    keys.Rule(
      'encoder/patches/projection/kernel',
      f'{theirs}.weight',
      forms.Patches(read['patch_size']),
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


def attention_rules(read: Mapping[str, Any]) -> list[keys.Rule]:
  """Rules of the attention layers."""
  ours, theirs = f'{BLOCK}/attention', f'{LAYER}.attention'
  rules = keys.dense(f'{ours}/out', f'{theirs}.output.dense', inputs=2)
  for name in ('query', 'key', 'value'):
    rules += keys.dense(
      f'{ours}/{name}', f'{theirs}.attention.{name}', bias=read['qkv_bias']
    )
  return rules


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  read = configs.section(config, '', _DEFAULTS)
  size = config.get('pooler_output_size') or read['hidden_size']
  if size != read['hidden_size']:
    raise ConfigError(
      f'config.json: pooler_output_size is {size}; mmjax reads only '
      f'hidden_size, {read["hidden_size"]}, here'
    )
  return read


FAMILY = base.Family(
  model=Model,
  sections=SECTIONS,
  module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  skip=SKIP,
  prefixes=PREFIXES,
  completes=COMPLETES,
  complete=complete,
)
