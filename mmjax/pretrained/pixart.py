"""PixArt-alpha and -sigma (Chen et al. 2024), as diffusers publishes them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs, diffusion_rules, forms, keys
from mmjax.types import Batch

_DEFAULTS = {
  'num_attention_heads': 16,
  'attention_head_dim': 72,
  'in_channels': 4,
  'out_channels': None,
  'num_layers': 28,
  'cross_attention_dim': None,
  'attention_bias': True,
  'sample_size': 128,
  'patch_size': 2,
  'activation_fn': 'gelu-approximate',
  'norm_eps': 1e-6,
  'interpolation_scale': None,
  'caption_channels': None,
}
# Where a config is silent; null is something else.
_SILENT = {'out_channels': 8, 'cross_attention_dim': 1152}
SECTIONS = {
  '': diffusion_rules.section(
    read={*_DEFAULTS, 'use_additional_conditions'},
    only={
      'norm_type': 'ada_norm_single',
      'norm_elementwise_affine': False,
      'attention_type': 'default',
    },
    irrelevant=(
      'dropout',
      'norm_num_groups',
      'num_embeds_ada_norm',
      'upcast_attention',
    ),
  )
}


class Model(diffusion_rules.PublishedDenoiser):
  """PixArt; `text` are the vectors of its T5 [B, T, E].

  Models of 1024 pixels also need `image_size` [B, 2], height and width.
  """

  @property
  def needs(self) -> tuple[str, ...]:
    """Names of the arrays that say what to draw."""
    return ('text', *(('image_size',) if self.module.embeds_size else ()))


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.PixArt:
  """The model that a config.json describes."""
  values = _read(config)
  side = values['sample_size']
  return models.PixArt(
    **diffusion_rules.sizes(values),
    patch_size=values['patch_size'],
    channels=values['in_channels'],
    out_channels=values['out_channels'] or values['in_channels'],
    projects_text=values['caption_channels'] is not None,
    base_grid=side // values['patch_size'],
    position_scale=values['interpolation_scale'] or max(side // 64, 1),
    embeds_size=_embeds_size(config, values),
    feature='latents',
    block={
      'activation': diffusion_rules.activation(values['activation_fn']),
      'norm_epsilon': values['norm_eps'],
      'attention_bias': values['attention_bias'] or ('out',),
    },
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = _read(config)
  side = values['sample_size']
  width = values['caption_channels'] or values['cross_attention_dim']
  shapes = {
    'latents': (1, side, side, values['in_channels']),
    'text': (1, 1, width),
    'image_size': (1, 2),
  }
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  ours, theirs = diffusion_rules.BLOCK, diffusion_rules.LAYER
  embed = 'adaln_single.emb'
  table = [
    *diffusion_rules.patches(values),
    *diffusion_rules.embedding('embed_time/mlp', f'{embed}.timestep_embedder'),
    *keys.dense('modulate_blocks', 'adaln_single.linear'),
    *diffusion_rules.feed_forward(f'{ours}/mlp', f'{theirs}.ff'),
    keys.Rule('modulate/table', 'scale_shift_table'),
    *keys.dense('head', 'proj_out'),
  ]
  for number, name in enumerate(('attention', 'cross_attention'), 1):
    table += keys.attention(
      f'{ours}/{name}',
      f'{theirs}.attn{number}',
      diffusion_rules.NAMES,
      bias=values['attention_bias'] or ('out',),
    )
  for i, name in enumerate(('attention', 'mlp')):
    table.append(
      keys.Rule(
        f'{ours}/{name}_modulation/table',
        f'{theirs}.scale_shift_table',
        forms.Part(i, 2, forms.Same()),
      )
    )
  if values['caption_channels'] is not None:
    table += diffusion_rules.embedding('project_text', 'caption_projection')
  if _embeds_size(config, values):
    for name, their in (('size', 'resolution'), ('aspect', 'aspect_ratio')):
      table += diffusion_rules.embedding(
        f'embed_{name}/mlp', f'{embed}.{their}_embedder'
      )
  return table


def _embeds_size(config: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
  """Whether the image's size modulates; by default at 1024 pixels alone."""
  chosen = config.get('use_additional_conditions')
  if chosen is None:
    return values['sample_size'] == 128
  configs.section(config, '', {'use_additional_conditions': False})
  return chosen


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section({**_SILENT, **config}, '', _DEFAULTS)
  width = values['num_attention_heads'] * values['attention_head_dim']
  if values['cross_attention_dim'] is None:
    raise ConfigError(
      'config.json: cross_attention_dim is None; mmjax reads only models with '
      'cross-attention here'
    )
  projects = values['caption_channels'] is not None
  if projects and values['cross_attention_dim'] != width:
    raise ConfigError(
      f'config.json: cross_attention_dim is {values["cross_attention_dim"]}, '
      f'but caption_channels are projected to {width}; write one number'
    )
  if _embeds_size(config, values) and width % 3:
    raise ConfigError(
      f'config.json: num_attention_heads * attention_head_dim is {width}; with '
      'use_additional_conditions mmjax reads only multiples of 3 here'
    )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
)
