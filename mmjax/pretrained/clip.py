"""CLIP (Radford et al. 2021), as Hugging Face publishes it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
from mmjax.types import Array, Batch

# Buffers that older versions of transformers saved.
SKIP = (r'.*\.position_ids',)
PREFIXES = ('clip.',)

TEXT = {
  'vocab_size': 49408,
  'hidden_size': 512,
  'intermediate_size': 2048,
  'num_hidden_layers': 12,
  'num_attention_heads': 8,
  'max_position_embeddings': 77,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}
VISION = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'num_channels': 3,
  'image_size': 224,
  'patch_size': 32,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}
_BOTH = {'projection_dim': 512}
TEXT_SECTION = sections.Section(read=TEXT, irrelevant=('projection_dim',))
VISION_SECTION = sections.Section(read=VISION, irrelevant=('projection_dim',))
SECTIONS = {
  '': sections.Section(
    read=(*_BOTH, 'text_config_dict', 'vision_config_dict'),
    irrelevant=('logit_scale_init_value',),
  ),
  'text_config': TEXT_SECTION,
  'vision_config': VISION_SECTION,
}


_END = {'eos_token_id': 49407}
_OLD_END = 2


class Model(dual_encoders.PublishedDualEncoder):
  """CLIP; texts are encoded up to their end token."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'shortest_edge': 224},
    'crop_size': {'height': 224, 'width': 224},
    'do_center_crop': True,
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }

  def tokenize(self, text_encoder: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], which ends where the text is pooled.

    That is at the first `eos_token_id` of config.json, also if the text itself
    contains it, or at the first token if there is none. If config.json has 2,
    as early files do by mistake, it is at the first of the highest ids.
    """
    ids, mask = super().tokenize(text_encoder)
    section = configs.section(self.config, 'text_config', _END)
    end = section['eos_token_id']
    if end == _OLD_END:
      last = jnp.argmax(ids, axis=1)
    else:
      last = jnp.argmax(ids == end, axis=1)
    until = jnp.arange(ids.shape[1])[None] <= last[:, None]
    return ids, mask & until


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes; texts are pooled at their end."""
  text, vision = _sections(config)
  return models.DualEncoder(
    image=image_encoder(vision, dtype),
    text=text_encoder(text, dtype),
    embed_dim=configs.section(config, '', _BOTH)['projection_dim'],
    dtype=dtype,
  )


def text_encoder(text: Mapping[str, Any], dtype: Any) -> encoders.Transformer:
  """The text tower; `text` has the fields of `TEXT`."""
  return encoders.Transformer(
    vocab_size=text['vocab_size'],
    max_length=text['max_position_embeddings'],
    causal=True,
    pooling='last',
    **towers.settings(text, dtype),
  )


def image_encoder(
  vision: Mapping[str, Any], dtype: Any, **settings: Any
) -> encoders.ViT:
  """The image tower; `vision` has the fields of `VISION`."""
  return encoders.ViT(
    patch_size=vision['patch_size'],
    class_token=True,
    pooling='first',
    patch_bias=False,
    pre_norm=True,
    **towers.settings(vision, dtype),
    **settings,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return towers.inputs(*_sections(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision = _sections(config)
  return [
    *towers.text_rules(),
    *keys.add_prefixes(
      image_rules(vision['patch_size']), 'image/', 'vision_model.'
    ),
    *keys.dense('image_projection/projection', 'visual_projection', bias=False),
    *keys.dense('text_projection/projection', 'text_projection', bias=False),
    keys.Rule('scale/log_scale', 'logit_scale'),
  ]


def image_rules(patch_size: int) -> list[keys.Rule]:
  """The key table of the image tower alone, without prefixes."""
  return [
    *towers.image_rules(patch_size),
    keys.Rule(
      'patches/class_token',
      'embeddings.class_embedding',
      forms.Same(flat=True),
    ),
    # Misspelled so in the checkpoints.
    *keys.norm('initial_norm', 'pre_layrnorm'),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict]:
  return (
    _section(config, 'text_config', TEXT),
    _section(config, 'vision_config', VISION),
  )


def _section(
  config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads one part, which early files have twice, the second as NAME_dict.

  Raises:
    ConfigError: if the two differ; transformers reads the second.
  """
  values = configs.section(config, name, defaults)
  second = f'{name}_dict'
  if config.get(second) is None:
    return values
  again = configs.section(config, second, defaults)
  for field, value in again.items():
    if value != values[field]:
      raise ConfigError(
        f'config.json: {second} gives {field} as {value!r}, but {name} as '
        f'{values[field]!r}; mmjax reads only equal ones'
      )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  prefixes=PREFIXES,
)
