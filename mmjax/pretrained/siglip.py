"""SigLIP (Zhai et al. 2023), as Hugging Face publishes it.

SigLIP 2 (Tschannen et al. 2025) at a fixed resolution is the same model with
another tokenizer. It was trained on texts in lower case.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  dual_encoders,
  forms,
  keys,
  sections,
  towers,
)
from mmjax.types import Batch

SKIP = (r'.*\.position_ids',)
PREFIXES = ('siglip.', 'siglip2.')

_SHARED = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'hidden_act': 'gelu_pytorch_tanh',
  'layer_norm_eps': 1e-6,
}
TEXT = {**_SHARED, 'vocab_size': 32000, 'max_position_embeddings': 64}
VISION = {
  **_SHARED,
  'num_channels': 3,
  'image_size': 224,
  'patch_size': 16,
  'vision_use_head': True,
}
VISION_SECTION = sections.Section(read=VISION)
TEXT_SECTION = sections.Section(
  read=(*TEXT, 'projection_size'), irrelevant=('projection_dim',)
)
SECTIONS = {
  '': sections.Section(),
  'text_config': TEXT_SECTION,
  'vision_config': VISION_SECTION,
}
_POOL = 'attention_pool'
_HEAD = 'head'


class Model(dual_encoders.PublishedDualEncoder):
  """SigLIP, whose text tower attends to padding too."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'height': 224, 'width': 224},
    'do_center_crop': False,
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes.

  Its texts have to be padded to their full length.
  """
  text, vision = read(config)
  return dual_encoder(image_encoder(vision, dtype), text, dtype)


def dual_encoder(
  image: nn.Module, text: Mapping[str, Any], dtype: Any
) -> models.DualEncoder:
  """SigLIP around an image encoder; `text` has the fields of `TEXT`."""
  return models.DualEncoder(
    image=image,
    text=text_encoder(text, dtype),
    embed_dim=image.width,
    project_image=None,
    project_text='affine',
    logit_scale_init=10.0,
    logit_bias_init=-10.0,
    dtype=dtype,
  )


def text_encoder(
  text: Mapping[str, Any], dtype: Any, pool_activation: str | None = None
) -> encoders.Transformer:
  """The text tower; `text` has the fields of `TEXT`."""
  return encoders.Transformer(
    vocab_size=text['vocab_size'],
    max_length=text['max_position_embeddings'],
    pooling='last',
    pool_activation=pool_activation,
    reads_padding=True,
    **towers.settings(text, dtype),
  )


def image_encoder(
  vision: Mapping[str, Any], dtype: Any, **settings: Any
) -> encoders.ViT:
  """The image tower; `vision` has the fields of `VISION`."""
  return encoders.ViT(
    patch_size=vision['patch_size'],
    pooling='attention' if vision['vision_use_head'] else 'mean',
    ragged=True,
    **towers.settings(vision, dtype),
    **settings,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return towers.inputs(*read(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision = read(config)
  return [
    *towers.text_rules(),
    *keys.add_prefixes(image_rules(vision), 'image/', 'vision_model.'),
    *keys.dense('text_projection/projection', 'text_model.head'),
    keys.Rule('scale/log_scale', 'logit_scale', forms.Same(flat=True)),
    keys.Rule('scale/bias', 'logit_bias', forms.Same(flat=True)),
  ]


def image_rules(vision: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the image tower alone, without prefixes."""
  table = [
    *towers.image_rules(vision['patch_size']),
    keys.Rule('patches/projection/bias', 'embeddings.patch_embedding.bias'),
  ]
  if not vision['vision_use_head']:
    return table
  inputs = ('query', 'key', 'value')
  for i, name in enumerate(inputs):
    ours = f'{_POOL}/attention/{name}'
    weight, bias = forms.Linear(), forms.Same(flat=True)
    number = len(inputs)
    table += [
      keys.Rule(
        f'{ours}/kernel',
        f'{_HEAD}.attention.in_proj_weight',
        forms.Part(i, number, weight),
      ),
      keys.Rule(
        f'{ours}/bias',
        f'{_HEAD}.attention.in_proj_bias',
        forms.Part(i, number, bias),
      ),
    ]
  return [
    *table,
    *keys.dense(
      f'{_POOL}/attention/out', f'{_HEAD}.attention.out_proj', inputs=2
    ),
    keys.Rule(f'{_POOL}/probe', f'{_HEAD}.probe', forms.Lead()),
    *keys.norm(f'{_POOL}/norm', f'{_HEAD}.layernorm'),
    *keys.dense(f'{_POOL}/mlp/up', f'{_HEAD}.mlp.fc1'),
    *keys.dense(f'{_POOL}/mlp/down', f'{_HEAD}.mlp.fc2'),
  ]


def read(config: Mapping[str, Any]) -> tuple[dict, dict]:
  """Reads the parts of config.json about texts and about images."""
  text = configs.section(config, 'text_config', TEXT)
  vision = configs.section(config, 'vision_config', VISION)
  if not vision['vision_use_head']:
    raise ConfigError(
      'config.json: vision_config.vision_use_head is False; mmjax reads SigLIP '
      'with its head alone'
    )
  size = (config.get('text_config') or {}).get('projection_size')
  if size not in (None, vision['hidden_size']):
    raise ConfigError(
      f'config.json: text_config.projection_size is {size}, but the images '
      f'are embedded in vision_config.hidden_size, {vision["hidden_size"]}'
    )
  return text, vision


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  prefixes=PREFIXES,
)
