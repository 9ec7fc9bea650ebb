"""VideoMAE (Tong et al. 2022), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.pretrained import (
  base,
  classifiers,
  configs,
  forms,
  keys,
  sections,
  vit,
)
from mmjax.types import Batch

PREFIXES = ('videomae.',)

UNUSED = {
  'VideoMAEModel': (
    r'(classifier|fc_norm)\.(weight|bias)',
    # The decoder of pre-training.
    r'encoder_to_decoder\.weight',
    r'mask_token',
    r'decoder\..*',
  ),
  'VideoMAEForVideoClassification': (),
}
_DEFAULTS = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'num_channels': 3,
  'image_size': 224,
  'patch_size': 16,
  'num_frames': 16,
  'tubelet_size': 2,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'qv_bias': True,
  'use_mean_pooling': True,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'qkv_bias'),
    # Keys about the decoder of pre-training.
    irrelevant=(
      'decoder_hidden_size',
      'decoder_intermediate_size',
      'decoder_num_attention_heads',
      'decoder_num_hidden_layers',
      'norm_pix_loss',
    ),
  )
}
# Epsilon of the norm before the classifier, whatever the config says.
_POOL_NORM_EPSILON = 1e-5


class Model(classifiers.PublishedVideoEncoder):
  """VideoMAE; the pooled vector is the mean over the tubelets."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'shortest_edge': 224},
    'crop_size': {'height': 224, 'width': 224},
    'do_center_crop': True,
    'resample': 2,
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes."""
  values = _read(config)
  return models.Classifier(
    encoder=encoders.VideoTransformer(
      patch_size=values['patch_size'],
      tubelet_size=values['tubelet_size'],
      num_frames=values['num_frames'],
      width=values['hidden_size'],
      depth=values['num_hidden_layers'],
      num_heads=values['num_attention_heads'],
      mlp_dim=values['intermediate_size'],
      pooling='mean' if values['use_mean_pooling'] else 'first',
      pool_norm_epsilon=_POOL_NORM_EPSILON
      if _has_pool_norm(config, values)
      else None,
      final_norm=not values['use_mean_pooling'],
      block={
        'activation': configs.activation(values['hidden_act']),
        'norm_epsilon': values['layer_norm_eps'],
        'attention_bias': ('query', 'value', 'out')
        if values['qv_bias']
        else ('out',),
      },
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if _has_classifier(config) else 0,
    modality='video',
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = _read(config)
  side, channels = values['image_size'], values['num_channels']
  shape = (1, values['num_frames'], side, side, channels)
  return {'video': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  theirs = 'embeddings.patch_embeddings.projection'
  patches = forms.Patches(values['patch_size'], values['tubelet_size'])
  trunk = [
    keys.Rule('encoder/projection/kernel', f'{theirs}.weight', patches),
    keys.Rule('encoder/projection/bias', f'{theirs}.bias'),
    *vit.block_rules(),
    *_attention_rules(values),
  ]
  if not values['use_mean_pooling']:
    trunk += keys.norm('encoder/last_norm', 'layernorm')
  if not _has_classifier(config):
    return trunk
  rules = keys.add_prefixes(trunk, '', PREFIXES[0])
  if _has_pool_norm(config, values):
    rules += keys.norm('encoder/pool_norm', 'fc_norm')
  return [*rules, *keys.dense('classifier', 'classifier')]


def _attention_rules(values: Mapping[str, Any]) -> list[keys.Rule]:
  ours, theirs = f'{vit.BLOCK}/attention', f'{vit.LAYER}.attention'
  rules = keys.dense(f'{ours}/out', f'{theirs}.output.dense', inputs=2)
  for name in ('query', 'key', 'value'):
    rules += keys.dense(
      f'{ours}/{name}', f'{theirs}.attention.{name}', bias=False
    )
    if values['qv_bias'] and name != 'key':
      rules.append(
        keys.Rule(
          f'{ours}/{name}/bias',
          f'{theirs}.attention.{name[0]}_bias',
          forms.Same(flat=True),
        )
      )
  return rules


def _has_pool_norm(
  config: Mapping[str, Any], values: Mapping[str, Any]
) -> bool:
  return _has_classifier(config) and values['use_mean_pooling']


def _has_classifier(config: Mapping[str, Any]) -> bool:
  name = configs.architecture(config, *UNUSED)
  return name == 'VideoMAEForVideoClassification'


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  if 'qkv_bias' in config:  # The older name.
    config = {**config, 'qv_bias': config['qkv_bias']}
  return configs.section(config, '', _DEFAULTS)


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  prefixes=PREFIXES,
)
