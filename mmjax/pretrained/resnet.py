"""Residual networks (He et al. 2016), as Hugging Face publishes them.

Their statistics stay as they are: see `mmjax.nn.FrozenBatchNorm`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, classifiers, configs, forms, keys, sections
from mmjax.types import Batch

# Counters of the batches that the statistics are of.
SKIP = (r'.*\.num_batches_tracked',)
PREFIXES = ('resnet.',)

UNUSED = {
  'ResNetModel': (r'classifier\.1\.(weight|bias)',),
  'ResNetForImageClassification': (),
}
_DEFAULTS = {
  'num_channels': 3,
  'embedding_size': 64,
  'hidden_sizes': [256, 512, 1024, 2048],
  'depths': [3, 4, 6, 3],
  'layer_type': 'bottleneck',
  'hidden_act': 'relu',
  'downsample_in_first_stage': False,
  'downsample_in_bottleneck': False,
}
SECTIONS = {'': sections.Section(read=_DEFAULTS, irrelevant=sections.BACKBONE)}
# Number of convolutions of a block.
_CONVOLUTIONS = {'basic': 2, 'bottleneck': 3}
_SIDE = 32


class Model(classifiers.PublishedImageEncoder):
  """ResNet; the pooled vector is the mean over the last feature map."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'shortest_edge': 384},
    'crop_pct': 224 / 256,
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.Classifier:
  """The model that a config.json describes, for images of any size."""
  values = _read(config)
  return models.Classifier(
    encoder=encoders.ResNet(
      stages=tuple(values['depths']),
      width=values['embedding_size'],
      block=values['layer_type'],
      norm='frozen_batch',
      dtype=dtype,
    ),
    num_classes=len(configs.labels(config)) if _has_classifier(config) else 0,
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example; the parameters depend on its channels alone."""
  shape = (1, _SIDE, _SIDE, _read(config)['num_channels'])
  return {'image': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _read(config)
  trunk = _convolution(
    'stem_layers/conv', 'stem_layers/norm', 'embedder.embedder'
  )
  number = _CONVOLUTIONS[values['layer_type']]
  for stage, depth in enumerate(values['depths']):
    for i in range(depth):
      ours = f'stage{stage}_block{i}'
      theirs = f'encoder.stages.{stage}.layers.{i}'
      for k in range(number):
        trunk += _convolution(
          f'{ours}/conv{k + 1}', f'{ours}/norm{k + 1}', f'{theirs}.layer.{k}'
        )
      # Only blocks that change the shape have a convolution in the shortcut.
      if i == 0 and (stage > 0 or values['layer_type'] == 'bottleneck'):
        trunk += _convolution(
          f'{ours}/shortcut', f'{ours}/shortcut_norm', f'{theirs}.shortcut'
        )
  if not _has_classifier(config):
    return keys.add_prefixes(trunk, 'encoder/', '')
  return [
    *keys.add_prefixes(trunk, 'encoder/', PREFIXES[0]),
    *keys.dense('classifier', 'classifier.1'),
  ]


def extras(config: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the counters of batches, which are not parameters here, as 0."""
  for rule in rules(config):
    if rule.theirs.endswith('running_mean'):
      name = rule.theirs.replace('running_mean', 'num_batches_tracked')
      yield name, np.zeros((), np.int64)


def _convolution(conv: str, norm: str, theirs: str) -> list[keys.Rule]:
  named = {
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
  }
  return [
    keys.Rule(
      f'{conv}/kernel', f'{theirs}.convolution.weight', forms.Convolution()
    ),
    *(
      keys.Rule(f'{norm}/{ours}', f'{theirs}.normalization.{their}')
      for ours, their in named.items()
    ),
  ]


def _has_classifier(config: Mapping[str, Any]) -> bool:
  name = configs.architecture(config, *UNUSED)
  return name == 'ResNetForImageClassification'


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section(config, '', _DEFAULTS)
  if values['layer_type'] not in _CONVOLUTIONS:
    raise ConfigError(
      f'config.json: layer_type is {values["layer_type"]!r}; mmjax knows '
      f'{sorted(_CONVOLUTIONS)}'
    )
  width = values['embedding_size']
  first = 4 * width if values['layer_type'] == 'bottleneck' else width
  known = {
    'hidden_sizes': [first * 2**i for i in range(len(values['depths']))],
    'hidden_act': 'relu',
    'downsample_in_first_stage': False,
    'downsample_in_bottleneck': False,
  }
  for field, value in known.items():
    if values[field] != value:
      raise ConfigError(
        f'config.json: {field} is {values[field]!r}; mmjax reads only '
        f'{value!r} here, with embedding_size {width}'
      )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  skip=SKIP,
  prefixes=PREFIXES,
  extras=extras,
)
