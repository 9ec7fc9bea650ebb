"""Objectives from plain data."""

import inspect
from collections.abc import Mapping
from typing import Any

import ml_collections

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
  """Makes weighted objectives.

  Args:
    config: by name of objective (a key of `OBJECTIVES`), its settings and its
      `weight` (1 if not given; one with weight 0 is left out).
    blind: keeps only the objectives that can do without images, and has them
      do without.

  Returns:
    By name, the weight and the objective.

  Raises:
    ValueError: for an unknown objective or setting, a negative weight, or if
      none is left.
  """
  built = {}
  for name, settings in config.items():
    if name not in OBJECTIVES:
      raise ValueError(
        f'objectives.{name} is unknown; use one of {sorted(OBJECTIVES)}'
      )
    settings = dict(settings)
    weight = settings.pop('weight', 1.0)
    if weight < 0:
      raise ValueError(
        f'objectives.{name}.weight must be at least 0, got {weight}'
      )
    legal = sorted(inspect.signature(OBJECTIVES[name]).parameters)
    unknown = sorted(set(settings) - set(legal))
    if unknown:
      raise ValueError(
        f'objectives.{name}.{unknown[0]} is unknown; use weight or one of '
        f'{legal}'
      )
    if blind and 'needs_image' not in legal:
      continue
    if blind:
      settings['needs_image'] = False
    if weight:
      built[name] = (float(weight), OBJECTIVES[name](**settings))
  if not built:
    raise ValueError(
      f'objectives is empty; give at least one of {sorted(OBJECTIVES)} a '
      f'weight above 0'
    )
  return built
