"""ALIGN (Jia et al. 2021), as Kakao Brain and Hugging Face publish it.

Its statistics stay as they are: see `mmjax.nn.FrozenBatchNorm`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  bert,
  configs,
  dual_encoders,
  forms,
  keys,
  sections,
)
from mmjax.types import Batch

# Counters of the batches that the statistics are of, and buffers.
SKIP = (
  r'.*\.num_batches_tracked',
  r'text_model\.embeddings\.(position_ids|token_type_ids)',
)
# The text tower's pooler, which does not take part in embedding texts.
KEPT = (r'text_model\.pooler\..*',)

_BOTH = {'projection_dim': 640, 'temperature_init_value': 1.0}
_TEXT = {
  'vocab_size': 30522,
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'max_position_embeddings': 512,
  'type_vocab_size': 2,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
}
_VISION = {
  'num_channels': 3,
  'image_size': 600,
  'width_coefficient': 2.0,
  'depth_coefficient': 3.1,
  'depth_divisor': 8,
  'kernel_sizes': [3, 3, 5, 3, 5, 5, 3],
  'in_channels': [32, 16, 24, 40, 80, 112, 192],
  'out_channels': [16, 24, 40, 80, 112, 192, 320],
  'depthwise_padding': [],
  'strides': [1, 2, 2, 2, 1, 2, 1],
  'num_block_repeats': [1, 2, 2, 3, 3, 4, 1],
  'expand_ratios': [1, 6, 6, 6, 6, 6, 6],
  'squeeze_expansion_ratio': 0.25,
  'hidden_act': 'swish',
  'batch_norm_eps': 1e-3,
}
SECTIONS = {
  '': sections.Section(read=_BOTH),
  'text_config': sections.Section(read=_TEXT),
  'vision_config': sections.Section(
    read=_VISION,
    only={'pooling_type': 'mean'},
    # `hidden_dim` is the largest pooling window, larger than any feature map.
    irrelevant=(
      'hidden_dim',
      'batch_norm_momentum',
      'drop_connect_rate',
      'num_hidden_layers',
    ),
  ),
}
_STEM = 32
_SIDE = 64
_STATISTICS = {
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


class Model(dual_encoders.PublishedDualEncoder):
  """ALIGN."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'height': 346, 'width': 346},
    'crop_size': {'height': 289, 'width': 289},
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
    'include_top': True,
  }
  padded_length: ClassVar[int] = 64


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes, for images of any size."""
  both, text, vision = _sections(config)
  return models.DualEncoder(
    image=encoders.EfficientNet(
      stem_width=_round_channels(vision, _STEM),
      widths=tuple(_round_channels(vision, n) for n in vision['out_channels']),
      repeats=_repeats(vision),
      kernel_sizes=tuple(vision['kernel_sizes']),
      strides=tuple(vision['strides']),
      expansions=tuple(vision['expand_ratios']),
      squeeze=vision['squeeze_expansion_ratio'],
      activation=configs.activation(vision['hidden_act']),
      even_pads=tuple(vision['depthwise_padding']),
      norm_epsilon=vision['batch_norm_eps'],
      dtype=dtype,
    ),
    text=encoders.Transformer(
      vocab_size=text['vocab_size'],
      width=text['hidden_size'],
      depth=text['num_hidden_layers'],
      num_heads=text['num_attention_heads'],
      mlp_dim=text['intermediate_size'],
      max_length=text['max_position_embeddings'],
      num_segments=text['type_vocab_size'],
      pooling='first',
      embed_norm=True,
      final_norm=False,
      block={
        'norm_position': 'post',
        'norm_epsilon': text['layer_norm_eps'],
        'activation': configs.activation(text['hidden_act']),
      },
      dtype=dtype,
    ),
    embed_dim=both['projection_dim'],
    project_image=None,
    project_text='affine',
    logit_scale_init=1 / both['temperature_init_value'],
    logit_scale_max=math.inf,
    learns_temperature=True,
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example; parameters depend on its channels alone."""
  _, _, vision = _sections(config)
  shape = (1, _SIDE, _SIDE, vision['num_channels'])
  return {
    'image': jax.ShapeDtypeStruct(shape, jnp.float32),
    'text': jax.ShapeDtypeStruct((1, 4), jnp.int32),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, _, vision = _sections(config)
  theirs = 'embeddings'
  image = [
    *_convolution('stem', f'{theirs}.convolution'),
    *_norm('stem_norm', f'{theirs}.batchnorm'),
  ]
  number = 0
  for repeats, expansion in zip(
    _repeats(vision), vision['expand_ratios'], strict=True
  ):
    for _ in range(repeats):
      image += _block(f'block{number}', f'encoder.blocks.{number}', expansion)
      number += 1
  return [
    *keys.add_prefixes(image, 'image/', 'vision_model.'),
    *keys.add_prefixes(bert.encoder_rules(), 'text/', 'text_model.'),
    *keys.dense('text_projection/projection', 'text_projection'),
    keys.Rule('scale/temperature', 'temperature'),
  ]


def extras(config: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the counters of batches, which are not parameters here, as 0."""
  for rule in rules(config):
    if rule.theirs.endswith('running_mean'):
      name = rule.theirs.replace('running_mean', 'num_batches_tracked')
      yield name, np.zeros((), np.int64)


def _block(ours: str, theirs: str, expansion: int) -> list[keys.Rule]:
  depthwise, weighing = f'{theirs}.depthwise_conv', f'{theirs}.squeeze_excite'
  project = f'{theirs}.projection'
  out = [
    *_convolution(f'{ours}/depthwise', f'{depthwise}.depthwise_conv'),
    *_norm(f'{ours}/depthwise_norm', f'{depthwise}.depthwise_norm'),
    *_convolution(f'{ours}/squeeze_conv', f'{weighing}.reduce', bias=True),
    *_convolution(f'{ours}/excite', f'{weighing}.expand', bias=True),
    *_convolution(f'{ours}/project', f'{project}.project_conv'),
    *_norm(f'{ours}/project_norm', f'{project}.project_bn'),
  ]
  if expansion != 1:
    out += _convolution(f'{ours}/expand', f'{theirs}.expansion.expand_conv')
    out += _norm(f'{ours}/expand_norm', f'{theirs}.expansion.expand_bn')
  return out


def _convolution(
  ours: str, theirs: str, *, bias: bool = False
) -> list[keys.Rule]:
  out = [keys.Rule(f'{ours}/kernel', f'{theirs}.weight', forms.Convolution())]
  if bias:
    out.append(keys.Rule(f'{ours}/bias', f'{theirs}.bias'))
  return out


def _norm(ours: str, theirs: str) -> list[keys.Rule]:
  return [
    keys.Rule(f'{ours}/{name}', f'{theirs}.{their}')
    for name, their in _STATISTICS.items()
  ]


def _round_channels(vision: Mapping[str, Any], channels: int) -> int:
  """Scales channels and rounds them to a multiple, down by at most 10%.

  As in the published code of Tan and Le 2019.
  """
  wanted = channels * vision['width_coefficient']
  unit = vision['depth_divisor']
  near = max(unit, int(wanted + unit / 2) // unit * unit)
  return near + unit if near < 0.9 * wanted else near


def _repeats(vision: Mapping[str, Any]) -> tuple[int, ...]:
  scale = vision['depth_coefficient']
  return tuple(math.ceil(scale * n) for n in vision['num_block_repeats'])


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  configs.architecture(config, 'AlignModel')
  both = configs.section(config, '', _BOTH)
  vision = configs.section(config, 'vision_config', _VISION)
  before = [_STEM, *vision['out_channels'][:-1]]
  if vision['in_channels'] != before:
    raise ConfigError(
      f'config.json: vision_config.in_channels is {vision["in_channels"]}, but '
      f'the stages before give {before}; mmjax reads only equal ones'
    )
  last = _round_channels(vision, vision['out_channels'][-1])
  if both['projection_dim'] != last:
    raise ConfigError(
      f'config.json: projection_dim is {both["projection_dim"]}, but images '
      f'have {last} channels; mmjax reads only equal ones'
    )
  return both, configs.section(config, 'text_config', _TEXT), vision


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  kept=KEPT,
  extras=extras,
)
