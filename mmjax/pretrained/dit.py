"""DiT (Peebles and Xie 2023), as diffusers publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.pretrained import base, configs, diffusion_rules, keys
from mmjax.types import Batch

_DEFAULTS = {
  'num_attention_heads': 16,
  'attention_head_dim': 72,
  'in_channels': 4,
  'out_channels': None,
  'num_layers': 28,
  'attention_bias': True,
  'sample_size': 32,
  'patch_size': 2,
  'activation_fn': 'gelu-approximate',
  'num_embeds_ada_norm': 1000,
  'norm_eps': 1e-5,
}
SECTIONS = {
  '': diffusion_rules.section(
    read=set(_DEFAULTS),
    only={'norm_type': 'ada_norm_zero', 'norm_elementwise_affine': False},
    irrelevant=('dropout', 'norm_num_groups', 'upcast_attention'),
  )
}


class Model(diffusion_rules.PublishedDenoiser):
  """DiT; `label` is a class [B], the number of classes for none."""

  needs: ClassVar[tuple[str, ...]] = ('label',)


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> models.DiT:
  """The model that a config.json describes."""
  values = configs.section(config, '', _DEFAULTS)
  outputs = values['out_channels'] or values['in_channels']
  return models.DiT(
    **diffusion_rules.sizes(values),
    patch_size=values['patch_size'],
    channels=values['in_channels'],
    out_channels=outputs,
    class_field='label',
    num_classes=values['num_embeds_ada_norm'],
    feature='latents',
    condition_per_block=True,
    block={
      'activation': diffusion_rules.activation(values['activation_fn']),
      # Theirs is about the MLP's norm alone.
      'mlp_norm_epsilon': values['norm_eps'],
      'attention_bias': values['attention_bias'] or ('out',),
    },
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = configs.section(config, '', _DEFAULTS)
  side = values['sample_size']
  shape = (1, side, side, values['in_channels'])
  return {
    'latents': jax.ShapeDtypeStruct(shape, jnp.float32),
    'label': jax.ShapeDtypeStruct((1,), jnp.int32),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = configs.section(config, '', _DEFAULTS)
  ours, theirs = diffusion_rules.BLOCK, diffusion_rules.LAYER
  embed = f'{theirs}.norm1.emb'
  table = [
    *diffusion_rules.patches(values),
    *diffusion_rules.embedding(
      'embed_condition/time/mlp', f'{embed}.timestep_embedder'
    ),
    keys.Rule(
      'embed_condition/classes/embedding',
      f'{embed}.class_embedder.embedding_table.weight',
    ),
    *keys.attention(
      f'{ours}/attention',
      f'{theirs}.attn1',
      diffusion_rules.NAMES,
      bias=values['attention_bias'] or ('out',),
    ),
    *diffusion_rules.feed_forward(f'{ours}/mlp', f'{theirs}.ff'),
    *diffusion_rules.modulation('modulate', 'proj_out_1'),
    *keys.dense('head', 'proj_out_2'),
  ]
  for i, name in enumerate(('attention', 'mlp')):
    table += diffusion_rules.modulation(
      f'{ours}/{name}_modulation', f'{theirs}.norm1.linear', i, 2
    )
  return table


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
)
