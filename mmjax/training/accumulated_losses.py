"""At a run's start, compares own losses on parts of a batch and on all of it.

With train.accumulate, an objective with `compared_outputs = ()` gets a
micro-batch at a time. One that compares examples all the same would be another
loss, silently: a contrastive one, say, with fewer negatives.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.parallel import mesh as mesh_lib
from mmjax.training import custom_losses, prepared
from mmjax.training import program as program_lib
from mmjax.training import step as step_lib
from mmjax.training.experiment import Experiment
from mmjax.types import Objective

# Examples of a part, if there are as many: the fewer, the more does a loss that
# compares them differ.
_EXAMPLES = 8
_NOTE = (
  'a batch and its micro-batches',
  'train.accumulate=1 computes it on whole batches',
)


def check(
  config: Any,
  experiment: Experiment,
  program: program_lib.Program,
  prepared_run: prepared.PreparedRun,
) -> None:
  """Compares the losses that mmjax does not have, on a part of a batch.

  It does nothing without accumulation. Of a loss that declares what it
  compares, the step passes on the whole batch.

  A loss that draws random numbers or has a teacher can't be compared; a note
  says so.

  Args:
    config: a completed config.
    experiment: its experiment.
    program: its program.
    prepared_run: its state and first batch; None if no step is left.

  Raises:
    ConfigError: if a loss or its count is another one in parts; it names the
      task and both values.
  """
  if config.train.accumulate == 1 or prepared_run.batch is None:
    return
  taken_apart = {
    name: objective
    for name, (_, objective) in experiment.objectives.items()
    if not objective.compared_outputs
  }
  own = dict(custom_losses.iterate(taken_apart, *_NOTE))
  if program.rollout is not None:
    for name in own:
      custom_losses.log_skipped(
        name, 'is of examples that the model makes', *_NOTE
      )
    return
  if not own:
    return
  compare = _make_compare(experiment, own, program, config.train.accumulate)
  with program.scope():
    measured = compare(prepared_run.state.params, prepared_run.batch)
  for name, values in jax.device_get(measured).items():
    values = {key: float(value) for key, value in values.items()}
    _judge(name, type(own[name]).__name__, values, config.train.accumulate)


def _judge(
  name: str, objective: str, values: Mapping[str, float], accumulate: int
) -> None:
  """Refuses an objective whose values in parts differ from those of the whole.

  Args:
    name: the task's name.
    objective: name of the objective's class.
    values: what `_make_compare` computes of it.
    accumulate: `train.accumulate`.
  """
  page = '(docs/bring_your_own.md#a-task)'
  if not custom_losses.are_close(values['count'], values['count_of_parts']):
    raise ConfigError(
      f'tasks.{name}: {objective}.count is {values["count"]:.4g} for some '
      f'examples, but {values["count_of_parts"]:.4g} in total for the two '
      f'halves of them, as train.accumulate={accumulate} adds them up: it must '
      'be the number of items (examples, tokens) that the loss is a mean over '
      f'{page}'
    )
  if not values['count']:
    custom_losses.log_skipped(name, 'has no item in the first examples', *_NOTE)
  elif not custom_losses.are_close(values['loss'], values['again']):
    custom_losses.log_skipped(name, 'draws random numbers', *_NOTE)
  elif not custom_losses.are_close(values['loss'], values['loss_of_parts']):
    raise ConfigError(
      f'tasks.{name}: {objective} is {values["loss"]:.4g} on some examples, '
      f'but {values["loss_of_parts"]:.4g} as the mean over the two halves of '
      f'them, as train.accumulate={accumulate} computes it. If it compares '
      'examples with each other, name the outputs that it compares, as in '
      "compared_outputs = ('image_embedding', 'text_embedding'), and it gets "
      'those of the whole batch; if not, it must be the mean over the items '
      f'that its `count` counts {page}; or set train.accumulate=1'
    )


def _make_compare(
  experiment: Experiment,
  own: Mapping[str, Objective],
  program: program_lib.Program,
  accumulate: int,
) -> Any:
  """Compiles (params, batch) -> by objective, losses and counts.

  These are `loss` and `count` of the examples of two parts, `again` with other
  random numbers, `loss_of_parts` and `count_of_parts` as the step sums them.
  All are of the same outputs of the model, so that only the loss differs.
  """
  model, key = experiment.model, jax.random.key(0)
  run = custom_losses.make_run(experiment, key)

  def measure(objective, params, whole, parts):
    apply = functools.partial(model.apply, {'params': params})
    more = {'apply': apply, **custom_losses.find_arguments(objective)}
    loss = lambda values, key: objective(*values, rng=key, **more)[0]
    count = lambda values: jnp.asarray(objective.count(values[1]), jnp.float32)
    counts = jnp.stack([count(part) for part in parts])
    losses = jnp.stack([loss(part, key) for part in parts])
    # As `mmjax.training.step` sums them.
    fractions = counts / jnp.maximum(counts.sum(), 1e-9)
    return {
      'loss': loss(whole, key),
      'again': loss(whole, jax.random.fold_in(key, 1)),
      'loss_of_parts': fractions @ losses,
      'count': count(whole),
      'count_of_parts': counts.sum(),
    }

  def compare(params, batch):
    size = len(next(iter(batch.values())))
    shards = mesh_lib.num_batch_shards(program.mesh)
    number = _find_number(size, shards, accumulate)
    chosen = {
      name: x[:2]
      for name, x in step_lib.split_micro_batches(batch, number).items()
    }
    first = {name: x[0] for name, x in chosen.items()}
    batched = custom_losses.find_batched(run, params, first)
    stacked = jax.lax.map(functools.partial(run, params), chosen)
    whole = jax.tree.map(
      lambda x, is_batched: step_lib.join(x) if is_batched else x[0],
      stacked,
      batched,
    )
    parts = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(2)]
    return {
      name: measure(objective, params, whole, parts)
      for name, objective in own.items()
    }

  replicated = mesh_lib.replicated_sharding(program.mesh)
  return jax.jit(compare, out_shardings=replicated)


def _find_number(batch_size: int, shards: int, accumulate: int) -> int:
  """Into how many parts of at least `_EXAMPLES` a batch is split.

  >>> _find_number(64, 2, 2), _find_number(8, 2, 2)
  (8, 2)

  Args:
    batch_size: B.
    shards: number of batch shards, of which each part has as many examples.
    accumulate: number of micro-batches, the least number of parts.
  """
  least = min(_EXAMPLES, batch_size // accumulate)
  return max(
    number
    for number in range(accumulate, batch_size // least + 1)
    if batch_size % (number * shards) == 0
  )
