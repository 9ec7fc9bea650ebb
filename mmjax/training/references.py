"""The model that a run starts from, as the reference of an objective."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.ops import tree_paths
from mmjax.runs import init_from
from mmjax.training import state as state_lib
from mmjax.training.frozen import FrozenModel
from mmjax.types import Batch, Objective, TaughtObjective


def needs_copy(config: Any, objective: Objective) -> bool:
  """Whether an objective needs a second, frozen copy of the model.

  It doesn't where only adapters are trained: the same parameters without them
  are the initial model.

  Args:
    config: a completed config.
    objective: any.
  """
  is_taught = isinstance(objective, TaughtObjective)
  if not is_taught or objective.teacher != 'initial':
    return False
  return not config.adapter.layers or bool(config.adapter.train)


def load(
  name: str, config: Any, model: nn.Module, init_batch: Batch
) -> FrozenModel:
  """Reads the model that a run starts from once more, to stay as it is.

  Args:
    name: the name of the task that needs it.
    config: a completed config.
    model: the run's model.
    init_batch: one or two examples of the run, for shapes.

  Raises:
    ConfigError: if the run starts from random parameters, wholly or in part.
  """
  boxed = state_lib.shapes(model, init_batch)
  shapes = nn.meta.unbox(boxed)
  found = init_from.load(config, shapes) if config.init_from else {}
  new = [path for path in tree_paths.flatten(shapes) if path not in found]
  if new:
    listed = ', '.join(new[:3]) + (', ...' if new[3:] else '')
    raise ConfigError(
      f'tasks.{name} compares with the model that the run starts from, but '
      f'init_from={config.init_from!r} has no values of {listed}; name a '
      'trained model'
    )
  return FrozenModel(
    apply=functools.partial(predict.apply_factored, model),
    params=jax.tree.map(np.asarray, tree_paths.unflatten(found)),
    boxed=boxed,
  )
