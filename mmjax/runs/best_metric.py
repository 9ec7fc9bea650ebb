"""The metric of `train.keep_best`, an item of the checkpoints that have it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmjax.errors import ConfigError
from mmjax.parallel import hosts

ITEM = 'best_metric'


def choose(
  metrics: Mapping[str, float], name: str, step: int
) -> dict[str, float] | None:
  """The metric among those of an evaluation, as it is stored.

  Returns:
    {name: value}; None without the metric, or where it is not finite, which is
    logged.
  """
  if name not in metrics:
    return None
  value = float(metrics[name])
  if math.isfinite(value):
    return {name: value}
  hosts.log(
    f'warning: train.keep_best: {name} is {value} at step {step}, which is not '
    'among the best then'
  )
  return None


def read(folder: Path, step: int, name: str) -> dict[str, float] | None:
  """The metric of a checkpoint; None without it, or if its file is damaged."""
  try:
    found = json.loads(_locate(folder, step).read_text())
  except (FileNotFoundError, json.JSONDecodeError):
    return None
  return found if name in found else None


def add(folder: Path, step: int, metric: Mapping[str, float]) -> None:
  """Stores the metric with a checkpoint that was saved without it."""
  if hosts.is_first():
    path = _locate(folder, step)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metric))


def find_step(folder: Path, steps: Sequence[int], name: str, mode: str) -> int:
  """The step with the best metric.

  Args:
    folder: the folder of the checkpoints.
    steps: those that there are.
    name: the metric.
    mode: 'max' or 'min', whether a larger or a smaller metric is better.

  Raises:
    ConfigError: if none has it.
  """
  found = {step: read(folder, step, name) for step in steps}
  values = {step: metric[name] for step, metric in found.items() if metric}
  if not values:
    raise ConfigError(
      f'{folder.parent} has no best checkpoint: none of the steps '
      f'{list(steps)} has the metric of train.keep_best={name!r}'
    )
  best = max if mode == 'max' else min
  return best(values, key=values.__getitem__)


def _locate(folder: Path, step: int) -> Path:
  return folder / str(step) / ITEM / 'metadata'  # As Orbax's JsonSave has it.
