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
    # What pre-training reconstructs videos with.
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
    # Of the half that is trained to fill gaps.
    irrelevant=(
      'decoder_hidden_size',
      'decoder_intermediate_size',
      'decoder_num_attention_heads',
      'decoder_num_hidden_layers',
      'norm_pix_loss',
    ),
  )
}
# Of the norm before the classifier, whatever the config says.
_POOL_NORM_EPSILON = 1e-5


class Model(classifiers.PublishedVideoEncoder):
  """VideoMAE; its pooled vector is the mean over the tubelets."""

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
  read = _read(config)
  return models.Classifier(
    encoder=encoders.VideoTransformer(
      patch_size=read['patch_size'],
      tubelet_size=read['tubelet_size'],
      num_frames=read['num_frames'],
      width=read['hidden_size'],
      depth=read['num_hidden_layers'],
      num_heads=read['num_attention_heads'],
      mlp_dim=read['intermediate_size'],
      pooling='mean' if read['use_mean_pooling'] else 'first',
      pool_norm_epsilon=_POOL_NORM_EPSILON
      if _has_pool_norm(config, read)
      else None,
      final_norm=not read['use_mean_pooling'],
      block={
        'activation': configs.activation(read['hidden_act']),
        'norm_epsilon': read['layer_norm_eps'],
        'attention_bias': ('query', 'value', 'out')
        if read['qv_bias']
        else ('out',),
      },
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if _classifies(config) else 0,
    modality='video',
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  read = _read(config)
  side, channels = read['image_size'], read['num_channels']
  shape = (1, read['num_frames'], side, side, channels)
  return {'video': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  read = _read(config)
  theirs = 'embeddings.patch_embeddings.projection'
  patches = forms.Patches(read['patch_size'], read['tubelet_size'])
  trunk = [
    keys.Rule('encoder/projection/kernel', f'{theirs}.weight', patches),
    keys.Rule('encoder/projection/bias', f'{theirs}.bias'),
    *vit.block_rules(),
    *_attention_rules(read),
  ]
  if not read['use_mean_pooling']:
    trunk += keys.norm('encoder/last_norm', 'layernorm')
  if not _classifies(config):
    return trunk
  rules = keys.prefixed(trunk, '', PREFIXES[0])
  if _has_pool_norm(config, read):
    rules += keys.norm('encoder/pool_norm', 'fc_norm')
  return [*rules, *keys.dense('classifier', 'classifier')]


def _attention_rules(read: Mapping[str, Any]) -> list[keys.Rule]:
  ours, theirs = f'{vit.BLOCK}/attention', f'{vit.LAYER}.attention'
  rules = keys.dense(f'{ours}/out', f'{theirs}.output.dense', inputs=2)
  for name in ('query', 'key', 'value'):
    rules += keys.dense(
      f'{ours}/{name}', f'{theirs}.attention.{name}', bias=False
    )
    if read['qv_bias'] and name != 'key':
      rules.append(
        keys.Rule(
          f'{ours}/{name}/bias',
          f'{theirs}.attention.{name[0]}_bias',
          forms.Same(flat=True),
        )
      )
  return rules


def _has_pool_norm(config: Mapping[str, Any], read: Mapping[str, Any]) -> bool:
  return _classifies(config) and read['use_mean_pooling']


def _classifies(config: Mapping[str, Any]) -> bool:
  name = configs.architecture(config, *UNUSED)
  return name == 'VideoMAEForVideoClassification'


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  if 'qkv_bias' in config:  # The older name.
    config = {**config, 'qv_bias': config['qkv_bias']}
  return configs.section(config, '', _DEFAULTS)


FAMILY = base.Family(
  model=Model,
  sections=SECTIONS,
  module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  prefixes=PREFIXES,
)
