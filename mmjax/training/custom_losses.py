"""What the checks of users' own losses at the start of a run share."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.models import contracts
from mmjax.parallel import hosts
from mmjax.training.experiment import Experiment
from mmjax.types import (
  Array,
  Batch,
  Objective,
  Outputs,
  Params,
  ScheduledObjective,
  TaughtObjective,
)

# Sums in another order, in float32. What an objective ignores is far more.
_TOLERANCE = 1e-3


def iterate(
  objectives: Mapping[str, Objective], between: str, way_out: str
) -> Iterator[tuple[str, Objective]]:
  """Yields name and objective of those that can be compared.

  Those of mmjax are left out: they are compared in its tests. So are those with
  a teacher, with a note.

  Args:
    objectives: objectives by name.
    between: what is compared, for the note.
    way_out: what needs no comparison, for the note.
  """
  for name, objective in objectives.items():
    if not contracts.is_custom(type(objective)):
      continue
    if isinstance(objective, TaughtObjective):
      log_skipped(name, 'has a teacher', between, way_out)
    else:
      yield name, objective


def log_skipped(name: str, why: str, between: str, way_out: str) -> None:
  """Prints that a loss is not compared.

  Args:
    name: the objective's name.
    why: why not.
    between: between, as in `iterate`.
    way_out: way_out, as in `iterate`.
  """
  hosts.log(
    f'note: the loss of tasks.{name} {why}, so it was not compared between '
    f'{between}; {way_out}'
  )


def are_close(a: float, b: float) -> bool:
  """Whether two losses are equal up to rounding, or both NaN."""
  return bool(np.isclose(a, b, _TOLERANCE, _TOLERANCE**2, equal_nan=True))


def find_arguments(objective: Objective) -> dict[str, Array]:
  """The further arguments of an objective without a teacher, at step 0."""
  is_scheduled = isinstance(objective, ScheduledObjective)
  return {'step': jnp.zeros((), jnp.int32)} if is_scheduled else {}


def make_run(experiment: Experiment, key: Array) -> Callable[..., Any]:
  """Makes (params, batch) -> outputs and inputs, as the first step has them.

  Args:
    experiment: the experiment.
    key: key of dropout.
  """

  def run(params: Params, batch: Batch) -> tuple[Outputs, Batch]:
    inputs = experiment.make_inputs(batch)
    outputs = experiment.model.apply(
      {'params': params}, inputs, train=True, rngs={'dropout': key}
    )
    return outputs, inputs

  return run


def find_batched(
  run: Callable[..., Any], params: Params, batch: Mapping[str, Any]
) -> Any:
  """Which of the arrays that a function returns have an axis of examples.

  An axis is that of the examples if it is longer for a larger batch. Others,
  such as that of a vocabulary's kernel, may have the same length by chance.

  Args:
    run: (params, batch) -> a tree of arrays.
    params: parameters.
    batch: arrays [B, ...]; they are not read.

  Returns:
    A tree of bool.
  """

  def shapes(factor: int) -> Any:
    larger = {
      name: jax.ShapeDtypeStruct((factor * len(x), *x.shape[1:]), x.dtype)
      for name, x in batch.items()
    }
    return jax.eval_shape(run, params, larger)

  return jax.tree.map(lambda a, b: a.shape != b.shape, shapes(1), shapes(2))
