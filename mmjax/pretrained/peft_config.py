"""adapter_config.json: PEFT's settings of LoRA and DoRA."""

import collections
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs

FILE = 'adapter_config.json'
# Keys that are read, or that change nothing of a trained adapter.
_KNOWN = (
  'alpha_pattern',
  'auto_mapping',
  'base_model_name_or_path',
  'bias',
  'ensure_weight_tying',
  'eva_config',
  'exclude_modules',
  'fan_in_fan_out',
  'inference_mode',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'lora_alpha',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'modules_to_save',
  'peft_type',
  'peft_version',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
  'use_dora',
  'use_rslora',
)
# Initial values that leave the base model as it is; others change its weights.
_INITIAL = (True, False, 'gaussian', 'eva', 'orthogonal', None)
_WRITERS = ('ForCausalLM', 'LMHeadModel')


def read(folder: Path) -> dict[str, Any]:
  """Reads an adapter's config.

  Raises:
    ConfigError: if it is broken, not LoRA, or has a setting that mmjax does not
      know.
  """
  path = folder / FILE
  config = configs.read(path)
  merge = 'merge the adapter into its model with peft, and open that'
  kind = config.get('peft_type') or 'LORA'
  if kind != 'LORA':
    raise ConfigError(
      f'{path}: peft_type is {kind!r}, but mmjax reads only LORA; {merge}'
    )
  if config.get('bias', 'none') != 'none':
    raise ConfigError(
      f"{path}: bias is {config['bias']!r}, but mmjax reads 'none'; {merge}"
    )
  initial = config.get('init_lora_weights', True)
  if initial not in _INITIAL:
    raise ConfigError(
      f'{path}: init_lora_weights is {initial!r}, which has changed weights of '
      f'the base model too; {merge}'
    )
  others = {k: v for k, v in config.items() if k not in _KNOWN and v}
  if others:
    listed = ', '.join(f'{k}={v!r}' for k, v in sorted(others.items()))
    raise ConfigError(f'{path}: mmjax does not know {listed}; {merge}')
  _check_numbers(path, config)
  return config


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
  patterns = config.get('alpha_pattern') or {}
  named = {'lora_alpha': config.get('lora_alpha'), **patterns}
  for name, value in named.items():
    if not isinstance(value, int | float) or isinstance(value, bool):
      raise ConfigError(f'{path}: {name} is {value!r}, which is not a number')


def find_scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
  """The factor on the product of a layer's matrices.

  Args:
    config: config of `read`.
    layer: name of the layer in transformers' model.
    rank: rank of its adapter.
  """
  alpha = config['lora_alpha']
  for pattern, value in (config.get('alpha_pattern') or {}).items():
    if re.match(rf'(.*\.)?({pattern})$', layer):
      alpha = value
      break
  return alpha / (math.sqrt(rank) if config.get('use_rslora') else rank)


def make(
  model: base.Pretrained,
  *,
  ranks: Mapping[str, int],
  scales: Mapping[str, float],
  dropout: float,
  dora: bool,
  is_transposed: bool,
  layers: Collection[str],
  whole: Sequence[str],
) -> dict[str, Any]:
  """The config of a model's adapters.

  Args:
    model: the model.
    ranks: by layer that has an adapter, its rank.
    scales: by layer, the factor on the product of its matrices.
    dropout: rate on the adapters' inputs.
    dora: whether they are DoRA's.
    is_transposed: whether matrices of dense layers are [out, in].
    layers: names of all layers.
    whole: names of the layers that were trained in full.
  """
  alphas = {
    name: _find_alpha(scale, ranks[name]) for name, scale in scales.items()
  }
  rank, alpha = _most_common(ranks), _most_common(alphas)
  architecture = (model.config.get('architectures') or [''])[0]
  writes = architecture.endswith(_WRITERS)
  mapping = {'base_model_class': architecture, 'parent_library': 'transformers'}
  return {
    'alpha_pattern': _differing(alphas, alpha),
    'auto_mapping': None if writes or not architecture else mapping,
    'base_model_name_or_path': model.base or None,
    'bias': 'none',
    'fan_in_fan_out': not is_transposed,
    'inference_mode': True,
    'lora_alpha': int(alpha) if alpha.is_integer() else alpha,
    'lora_dropout': float(f'{dropout:.6g}'),
    'modules_to_save': list(whole) or None,
    'peft_type': 'LORA',
    'r': rank,
    'rank_pattern': _differing(ranks, rank),
    'target_modules': _name_layers(ranks, layers),
    'task_type': 'CAUSAL_LM' if writes else None,
    'use_dora': dora,
    'use_rslora': False,
  }


def _find_alpha(scale: float, rank: int) -> float:
  """The number of fewest digits that makes the scale, a float32, again.

  >>> _find_alpha(1.6666666269302368, 3)
  5.0
  """
  alpha = scale * rank
  for digits in range(1, 18):
    short = float(f'{alpha:.{digits}g}')
    if np.float32(short / rank) == np.float32(scale):
      return short
  return alpha


def _most_common(values: Mapping[str, Any]) -> Any:
  return collections.Counter(values.values()).most_common(1)[0][0]


def _differing(values: Mapping[str, Any], usual: Any) -> dict[str, Any]:
  """By the pattern of a layer's name, the values that are not the usual one."""
  return {
    re.escape(name): value for name, value in values.items() if value != usual
  }


def _name_layers(
  adapted: Collection[str], layers: Collection[str]
) -> list[str]:
  """Last names of the adapted layers, if no other layer has one of them."""
  last = lambda name: name.rpartition('.')[2]
  short = {last(name) for name in adapted}
  if all(name in adapted for name in layers if last(name) in short):
    return sorted(short)
  return sorted(adapted)
