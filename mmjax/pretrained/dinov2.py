"""DINOv2 (Oquab et al. 2023), without and with registers, as published."""

from collections.abc import Mapping
from typing import Any, ClassVar

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

PREFIXES = ('dinov2.', 'dinov2_with_registers.')

_CLASSES = {'dinov2': 'Dinov2', 'dinov2_with_registers': 'Dinov2WithRegisters'}
UNUSED = {
  'Dinov2Model': (r'classifier\.(weight|bias)',),
  'Dinov2ForImageClassification': (),
  'Dinov2WithRegistersModel': (r'classifier\.(weight|bias)',),
  'Dinov2WithRegistersForImageClassification': (),
}
_DEFAULTS = {
  'hidden_size': 768,
  'mlp_ratio': 4,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'num_channels': 3,
  'image_size': 224,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-6,
  'qkv_bias': True,
  'use_swiglu_ffn': False,
}
_OWN_DEFAULTS = {
  'dinov2': {'patch_size': 14, 'use_mask_token': True},
  'dinov2_with_registers': {'patch_size': 16, 'num_register_tokens': 4},
}

SECTIONS = {
  '': sections.Section(
    read={name for own in _OWN_DEFAULTS.values() for name in own}
    | set(_DEFAULTS),
    irrelevant=(*sections.BACKBONE, 'drop_path_rate', 'layerscale_value'),
  )
}


class Model(classifiers.PublishedImageEncoder):
  """DINOv2; the pooled vector is the class token."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'shortest_edge': 224},
    'crop_size': {'height': 224, 'width': 224},
    'do_center_crop': True,
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes, for images of any size.

  Pixels beyond the last whole patch are left out.
  """
  values = _read(config)
  return models.Classifier(
    encoder=encoders.ViT(
      mlp_dim=_mlp_dim(values),
      registers=values['num_register_tokens'],
      mask_token=values['use_mask_token'],
      position_resize='bicubic_antialiased'
      if _has_registers(config)
      else 'bicubic',
      block={**_block(values), 'layer_scale': 1.0},
      **vit.settings(values),
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if _has_classifier(config) else 0,
    patches_from=1 + values['num_register_tokens'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return vit.images(_read(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  trunk = [
    *vit.embedding_rules(values),
    *vit.attention_rules(values),
    *_mlp_rules(values),
  ]
  for ours, number in (('attention', 1), ('mlp', 2)):
    trunk += [
      *keys.norm(f'{vit.BLOCK}/{ours}_norm', f'{vit.LAYER}.norm{number}'),
      keys.Rule(
        f'{vit.BLOCK}/{ours}_scale',
        f'{vit.LAYER}.layer_scale{number}.lambda1',
      ),
    ]
  if values['use_mask_token']:
    trunk.append(
      keys.Rule('encoder/patches/mask_token', 'embeddings.mask_token')
    )
  if values['num_register_tokens']:
    trunk.append(
      keys.Rule(
        'encoder/patches/registers', 'embeddings.register_tokens', forms.Lead()
      )
    )
  if not _has_classifier(config):
    return trunk
  return [
    *keys.add_prefixes(trunk, '', f'{config["model_type"]}.'),
    *keys.dense('classifier', 'classifier'),
  ]


def _mlp_rules(values: Mapping[str, Any]) -> list[keys.Rule]:
  ours, theirs = f'{vit.BLOCK}/mlp', f'{vit.LAYER}.mlp'
  if not values['use_swiglu_ffn']:
    return [
      *keys.dense(f'{ours}/up', f'{theirs}.fc1'),
      *keys.dense(f'{ours}/down', f'{theirs}.fc2'),
    ]
  packed = f'{theirs}.weights_in'
  rules = keys.dense(f'{ours}/down', f'{theirs}.weights_out')
  for i, name in enumerate(('gate', 'up')):
    weight, bias = (
      forms.Part(i, 2, forms.Linear()),
      forms.Part(i, 2, forms.Same()),
    )
    rules += [
      keys.Rule(f'{ours}/{name}/kernel', f'{packed}.weight', weight),
      keys.Rule(f'{ours}/{name}/bias', f'{packed}.bias', bias),
    ]
  return rules


def _mlp_dim(values: Mapping[str, Any]) -> int:
  hidden = values['hidden_size'] * values['mlp_ratio']
  if not values['use_swiglu_ffn']:
    return hidden
  # Two thirds, so that three matrices have the size of two; then rounded up to
  # a multiple of 8.
  return (hidden * 2 // 3 + 7) // 8 * 8


def _block(values: Mapping[str, Any]) -> dict[str, Any]:
  settings = vit.block(values)
  if values['use_swiglu_ffn']:
    settings |= {'gated': True, 'activation': 'silu'}
  return settings


def _has_registers(config: Mapping[str, Any]) -> bool:
  return config['model_type'] == 'dinov2_with_registers'


def _has_classifier(config: Mapping[str, Any]) -> bool:
  name = _CLASSES[config['model_type']]
  known = (f'{name}Model', f'{name}ForImageClassification')
  return configs.architecture(config, *known) == known[1]


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  own = _OWN_DEFAULTS[config['model_type']]
  # Defaults of the fields that only the other kind's config has.
  fixed = {'use_mask_token': True, 'num_register_tokens': 0}
  return {**fixed, **configs.section(config, '', {**_DEFAULTS, **own})}


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  prefixes=PREFIXES,
)
