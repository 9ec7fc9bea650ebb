"""Refuses objectives that don't keep to `mmjax.types.Objective`.

An error inside an objective keeps its traceback.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax.errors import suggest
from mmjax.models import contracts
from mmjax.types import Array, Objective, ScheduledObjective, TaughtObjective

_SECTION = f'({contracts.PAGE}#a-task)'


def check(name: str, objective: Objective) -> None:
  """Refuses an objective by what it has, before it is called.

  Args:
    name: the task's name.
    objective: its objective.

  Raises:
    ContractError: naming the task, the objective's class, and what is missing.
  """
  where = f'tasks.{name}: {type(objective).__name__}'
  if not hasattr(objective, 'compared_outputs'):
    raise contracts.ContractError(
      f'{where} has no `compared_outputs`, the names of the outputs of which '
      'it compares those of different examples; compared_outputs = () says '
      f'that it takes each example by itself {_SECTION}'
    )
  compared = objective.compared_outputs
  if not isinstance(compared, tuple | list):
    raise contracts.ContractError(
      f'{where}.compared_outputs is {compared!r}, but it is a tuple of names '
      f'of outputs, as in compared_outputs = ({compared!r},) {_SECTION}'
    )
  if not callable(getattr(objective, 'count', None)):
    raise contracts.ContractError(
      f'{where} has no method count(batch), the number of items (examples, '
      f'tokens) that its loss is a mean over {_SECTION}'
    )
  if not callable(objective):
    raise contracts.ContractError(
      f'{where} cannot be called; an objective is called as objective(outputs, '
      f'batch, apply=..., rng=..., axis_name=...) {_SECTION}'
    )
  names = ('apply', 'rng', 'axis_name')
  if isinstance(objective, TaughtObjective):
    names = (*names, 'apply_teacher')
  if isinstance(objective, ScheduledObjective):
    names = (*names, 'step')
  call = f'(outputs, batch, {", ".join(f"{n}=..." for n in names)}) {_SECTION}'
  contracts.check_arguments(objective, where, f'objective{call}', 2, names)
  where = f'{where}.count'
  call = f'count(batch) {_SECTION}'
  contracts.check_arguments(objective.count, where, call, 1, ())


def check_compared(
  name: str, objective: Objective, outputs: Mapping[str, Any]
) -> None:
  """Refuses an own objective that compares what the model does not return.

  Args:
    name: the task's name.
    objective: its objective.
    outputs: the model's.

  Raises:
    ContractError: naming the output, and those that there are.
  """
  if not contracts.is_custom(type(objective)):
    return  # Its own message says how a model comes to have them.
  for output in objective.compared_outputs:
    if output not in outputs:
      raise contracts.ContractError(
        f'tasks.{name}: {type(objective).__name__}.compared_outputs names '
        f'{output!r}, but the model returns {", ".join(sorted(outputs))}'
        f'{suggest(output, outputs)} {_SECTION}'
      )


def check_result(
  name: str, objective: Objective, result: Any
) -> tuple[Array, Mapping[str, Any]]:
  """Refuses what an objective must not return.

  Args:
    name: the task's name.
    objective: its objective.
    result: what it has returned.

  Returns:
    Its loss and metrics.

  Raises:
    ContractError: naming the task, the objective's class, and what it returned.
  """
  wanted = f'an objective returns a pair, loss and dict of metrics {_SECTION}'
  where = f'tasks.{name}: {type(objective).__name__} returned'
  got = contracts.describe(result)
  if not isinstance(result, tuple | list) or len(result) != 2:
    raise contracts.ContractError(f'{where} {got}, but {wanted}')
  loss, metrics = result
  if not isinstance(metrics, Mapping):
    raise contracts.ContractError(f'{where} {got}, but {wanted}')
  scalars = {
    'as its loss': loss,
    **{
      f'as its metric {key!r}': value
      for key, value in metrics.items()
      if key not in ('items', 'moves')
    },
  }
  for what, value in scalars.items():
    if value is None or isinstance(value, Mapping) or jnp.shape(value):
      got = contracts.describe(value)
      raise contracts.ContractError(
        f'{where} {got} {what}, but {wanted}, all scalars'
      )
  return loss, metrics


def check_count(
  name: str, objective: Objective, shape: tuple[int, ...]
) -> None:
  """Refuses a count that is not one number.

  Args:
    name: the task's name.
    objective: its objective.
    shape: shape of its count.

  Raises:
    ContractError: naming the task and the objective's class.
  """
  if shape:
    raise contracts.ContractError(
      f'tasks.{name}: {type(objective).__name__}.count returned an array '
      f'{list(shape)}, but it is one number, as mask.sum() {_SECTION}'
    )
