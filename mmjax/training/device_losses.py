"""Compares an own loss on devices with the same on the whole batch.

With mesh.style='pmap' an objective gets one device's arrays and gathers what it
needs of the others' itself. One that ignores `axis_name` would be another loss,
silently: a contrastive one, say, with fewer negatives.
"""

import functools
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

_NOTE = (
  'one device and several',
  "with mesh.style='pjit' it needs no code for devices",
)


def check(
  config: Any,
  experiment: Experiment,
  program: program_lib.Program,
  prepared_run: prepared.PreparedRun,
) -> None:
  """Compares the losses that mmjax does not have, on a micro-batch.

  It does nothing where devices don't split the arrays of a loss: with
  mesh.style='pjit', and with one device.

  A loss that draws random numbers or has a teacher can't be compared; a note
  says so.

  Args:
    config: a completed config.
    experiment: its experiment.
    program: its program.
    prepared_run: its state and first batch; None if no step is left.

  Raises:
    ConfigError: if a loss is another one on devices; it names the task and both
      values.
  """
  if (
    program.style != 'pmap'
    or program.mesh.size == 1
    or prepared_run.batch is None
  ):
    return
  objectives = {n: o for n, (_, o) in experiment.objectives.items()}
  for name, objective in custom_losses.iterate(objectives, *_NOTE):
    compare = _make_compare(
      experiment, objective, program.mesh, config.train.accumulate
    )
    losses = compare(prepared_run.state.params, prepared_run.batch)
    whole, again, split = map(float, jax.device_get(losses))
    if not custom_losses.are_close(whole, again):
      custom_losses.log_skipped(name, 'draws random numbers', *_NOTE)
    elif not custom_losses.are_close(whole, split):
      raise ConfigError(
        f'tasks.{name}: {type(objective).__name__} is {whole:.4g} on a whole '
        f'batch, but {split:.4g} on the {program.mesh.size} devices of '
        "mesh.style='pmap': where axis_name is set, its arrays are those of "
        'one device; compare them with those of all devices, '
        'mmjax.parallel.collectives.gather(array, axis_name), or use '
        "mesh.style='pjit'"
      )


def _make_compare(
  experiment: Experiment,
  objective: Objective,
  mesh: jax.sharding.Mesh,
  accumulate: int,
) -> Any:
  """Compiles (params, batch) -> the loss of the whole, drawn again, of devices.

  All three are of the same outputs of the model, so that only the loss differs.
  """
  model, key = experiment.model, jax.random.key(0)
  run = custom_losses.make_run(experiment, key)

  def loss(params, outputs, inputs, key, axis_name=None):
    apply = functools.partial(model.apply, {'params': params})
    more = {'apply': apply, **custom_losses.find_arguments(objective)}
    return objective(outputs, inputs, rng=key, axis_name=axis_name, **more)[0]

  def loss_of_device(params, outputs, inputs):
    # As `mmjax.training.step` sums them.
    count = jnp.asarray(objective.count(inputs), jnp.float32)
    total = jnp.maximum(jax.lax.psum(count, 'data'), 1e-9)
    device_key = jax.random.fold_in(key, jax.lax.axis_index('data'))
    value = loss(params, outputs, inputs, device_key, 'data')
    return jax.lax.psum(count / total * value, 'data')

  def compare(params, batch):
    part = {
      n: x[0]
      for n, x in step_lib.split_micro_batches(batch, accumulate).items()
    }
    specs = jax.tree.map(
      lambda is_batched: jax.P(mesh_lib.BATCH_AXES) if is_batched else jax.P(),
      custom_losses.find_batched(run, params, part),
    )
    outputs, inputs = run(params, part)
    on_devices = jax.shard_map(
      loss_of_device,
      mesh=mesh,
      in_specs=(jax.P(), *specs),
      out_specs=jax.P(),
      check_vma=False,  # It sums over devices itself.
    )
    return (
      loss(params, outputs, inputs, key),
      loss(params, outputs, inputs, jax.random.fold_in(key, 1)),
      on_devices(params, outputs, inputs),
    )

  return jax.jit(compare, out_shardings=mesh_lib.replicated_sharding(mesh))
