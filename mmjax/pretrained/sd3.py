"""The MMDiT of Stable Diffusion 3 and 3.5, as diffusers publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs, diffusion_rules, forms, keys
from mmjax.types import Batch

_DEFAULTS = {
  'sample_size': 128,
  'patch_size': 2,
  'in_channels': 16,
  'num_layers': 18,
  'attention_head_dim': 64,
  'num_attention_heads': 18,
  'joint_attention_dim': 4096,
  'caption_projection_dim': 1152,
  'pooled_projection_dim': 2048,
  'out_channels': None,
  'pos_embed_max_size': 96,
  'dual_attention_layers': [],
}
SECTIONS = {
  '': diffusion_rules.section(read={*_DEFAULTS, 'qk_norm'}),
}
_QK_NORMS = {None: None, 'rms_norm': 'rmsnorm', 'layer_norm': 'layernorm'}


class Model(diffusion_rules.PublishedDenoiser):
  """Stable Diffusion 3's transformer.

  `text` are the vectors of its text encoders [B, T, E], `text_pooled` [B, P]
  those of its CLIPs.
  """

  needs: ClassVar[tuple[str, ...]] = ('text', 'text_pooled')


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> models.MMDiT:
  """The model that a config.json describes."""
  values = _read(config)
  return models.MMDiT(
    **diffusion_rules.sizes(values),
    patch_size=values['patch_size'],
    channels=values['in_channels'],
    out_channels=values['out_channels'] or values['in_channels'],
    positions_grid=values['pos_embed_max_size'],
    base_grid=values['sample_size'] // values['patch_size'],
    dual_layers=tuple(values['dual_attention_layers']),
    qk_norm=_qk_norm(config),
    feature='latents',
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = _read(config)
  side = values['patch_size']
  shapes = {
    'latents': (1, side, side, values['in_channels']),
    'text': (1, 1, values['joint_attention_dim']),
    'text_pooled': (1, values['pooled_projection_dim']),
  }
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  table = [
    *diffusion_rules.patches(values),
    keys.Rule('positions', 'pos_embed.pos_embed', forms.Lead()),
    *diffusion_rules.embedding(
      'embed_time/mlp', 'time_text_embed.timestep_embedder'
    ),
    *diffusion_rules.embedding('embed_pooled', 'time_text_embed.text_embedder'),
    *keys.dense('project_text', 'context_embedder'),
    *_scale_first('modulate', 'norm_out.linear'),
    *keys.dense('head', 'proj_out'),
  ]
  for i in range(values['num_layers']):
    table += _block_rules(
      f'blocks_{i}',
      f'transformer_blocks.{i}',
      is_last=i == values['num_layers'] - 1,
      dual=i in values['dual_attention_layers'],
      norm=_qk_norm(config),
    )
  return table


def _block_rules(
  ours: str, theirs: str, *, is_last: bool, dual: bool, norm: str | None
) -> list[keys.Rule]:
  """Rules of one block; the last has no results for the text."""
  attention = {**diffusion_rules.NAMES}
  attention |= {f'context_{n}': f'add_{n[0]}_proj' for n in _PROJECTED}
  if not is_last:
    attention['context_out'] = 'to_add_out'
  table = _attention_rules(f'{ours}/attention', f'{theirs}.attn', attention)
  names = ['attention', 'mlp']
  if dual:
    names.append('dual_attention')
    table += _attention_rules(
      f'{ours}/dual_attention', f'{theirs}.attn2', diffusion_rules.NAMES
    )
  for i, name in enumerate(names):
    table += diffusion_rules.modulation(
      f'{ours}/{name}_modulation', f'{theirs}.norm1.linear', i, len(names)
    )
  table += diffusion_rules.feed_forward(f'{ours}/mlp', f'{theirs}.ff')
  if is_last:
    table += _scale_first(
      f'{ours}/context_attention_modulation', f'{theirs}.norm1_context.linear'
    )
  else:
    for i, name in enumerate(('attention', 'mlp')):
      table += diffusion_rules.modulation(
        f'{ours}/context_{name}_modulation',
        f'{theirs}.norm1_context.linear',
        i,
        2,
      )
    table += diffusion_rules.feed_forward(
      f'{ours}/context_mlp', f'{theirs}.ff_context'
    )
  bias = norm == 'layernorm'
  for name in ('query', 'key') if norm else ():
    letter = name[0]
    pairs = [
      ('attention', f'{name}_norm', f'attn.norm_{letter}'),
      ('attention', f'context_{name}_norm', f'attn.norm_added_{letter}'),
    ]
    if dual:
      pairs.append(('dual_attention', f'{name}_norm', f'attn2.norm_{letter}'))
    for layer, our, their in pairs:
      table += keys.norm(
        f'{ours}/{layer}/{our}', f'{theirs}.{their}', bias=bias
      )
  return table


_PROJECTED = ('query', 'key', 'value')


def _attention_rules(
  ours: str, theirs: str, names: Mapping[str, str]
) -> list[keys.Rule]:
  """Rules of an attention layer with any projections."""
  return [
    rule
    for our, their in names.items()
    for rule in keys.dense(
      f'{ours}/{our}',
      f'{theirs}.{their}',
      inputs=2 if our.endswith('out') else 1,
    )
  ]


def _scale_first(ours: str, theirs: str) -> list[keys.Rule]:
  """Rules of a modulation whose scale is before its shift there."""
  return [
    keys.Rule(
      f'{ours}/dense/kernel',
      f'{theirs}.weight',
      forms.SwappedHalves(forms.Linear()),
    ),
    keys.Rule(
      f'{ours}/dense/bias',
      f'{theirs}.bias',
      forms.SwappedHalves(forms.Same()),
    ),
  ]


def _qk_norm(config: Mapping[str, Any]) -> str | None:
  name = config.get('qk_norm')
  if not isinstance(name, str | None) or name not in _QK_NORMS:
    raise ConfigError(
      f'config.json: qk_norm is {name!r}; mmjax knows {list(_QK_NORMS)}'
    )
  return _QK_NORMS[name]


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section({'out_channels': 16, **config}, '', _DEFAULTS)
  width = values['num_attention_heads'] * values['attention_head_dim']
  if values['caption_projection_dim'] != width:
    raise ConfigError(
      f'config.json: caption_projection_dim is '
      f'{values["caption_projection_dim"]}; mmjax reads only '
      f'num_attention_heads * attention_head_dim, {width}, here'
    )
  layers = values['dual_attention_layers']
  if layers and not 0 <= min(layers) <= max(layers) < values['num_layers']:
    raise ConfigError(
      f'config.json: dual_attention_layers is {layers}, but there are '
      f'{values["num_layers"]} layers'
    )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
)
