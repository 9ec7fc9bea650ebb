"""Builds objectives from a config."""

import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from mmjax import types
from mmjax.errors import ConfigError
from mmjax.objectives import contrastive, text
from mmjax.types import Objective

OBJECTIVES = {
  'contrastive': contrastive.Contrastive,
  'captioning': text.Captioning,
  'vqa_generation': text.VqaGeneration,
  'vqa_classification': text.VqaClassification,
}


def build(
  config: Mapping[str, Mapping[str, Any]] | ml_collections.ConfigDict,
  *,
  blind: bool = False,
) -> dict[str, tuple[float, Objective]]:
  """Builds weighted objectives.

  Args:
    config: settings of each objective by its name (a key of `OBJECTIVES`), with
      its `weight` (default: 1); objectives with weight 0 are left out.
    blind: whether to build only the objectives that can train without images,
      and these without images, for the blind baseline.

  Returns:
    Weight and objective by name.

  Raises:
    ConfigError: for an unknown objective or setting, a value of the wrong type
      or out of range, or if no objective is left.
  """
  built = {}
  for name, settings in config.items():
    if name not in OBJECTIVES:
      raise ConfigError(
        f'objectives.{name} is unknown; use one of {sorted(OBJECTIVES)}'
      )
    objective = OBJECTIVES[name]
    settings = dict(settings)
    weight = settings.pop('weight', 1.0)
    if type(weight) not in (int, float) or not 0 <= weight < math.inf:
      raise ConfigError(
        f'objectives.{name}.weight must be a number from 0, got {weight!r}'
      )
    legal = sorted(inspect.signature(objective).parameters)
    unknown = sorted(set(settings) - set(legal))
    if unknown:
      raise ConfigError(
        f'objectives.{name}.{unknown[0]} is unknown; use weight or one of '
        f'{legal}'
      )
    _check_values(objective, settings, f'objectives.{name}')
    if blind and 'needs_image' not in legal:
      continue
    if blind:
      settings['needs_image'] = False
    if weight:
      built[name] = (float(weight), objective(**settings))
  if not built:
    raise ConfigError(
      f'objectives is empty; give at least one of {sorted(OBJECTIVES)} a '
      f'weight above 0'
    )
  return built


def _check_values(
  objective: type, settings: Mapping[str, Any], path: str
) -> None:
  hints = typing.get_type_hints(objective, include_extras=True)
  for key, value in settings.items():
    (kind,) = types.alternatives(hints[key])
    if type(value) is not kind and (kind, type(value)) != (float, int):
      raise ConfigError(f'{path}.{key} must be {kind.__name__}, got {value!r}')
    fault = types.setting_of(hints[key]).fault(value)
    if fault:
      raise ConfigError(f'{path}.{key} {fault}, got {value!r}')


def needs(
  objectives: Mapping[str, tuple[float, Objective]],
) -> dict[str, tuple[str, ...]]:
  """The modalities that an example must have, by name of objective."""
  return {name: built.needs() for name, (_, built) in objectives.items()}
