"""Compares an own loss on devices with the same on the whole batch.

With mesh.style='pmap' an objective gets one device's arrays and gathers what it
needs of the others' itself. One that ignores `axis_name` would be another loss,
silently: a contrastive one, say, with fewer negatives.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.parallel import mesh as mesh_lib
from mmjax.training import prepared
from mmjax.training import program as program_lib
from mmjax.training import step as step_lib
from mmjax.training.experiment import Experiment
from mmjax.types import Objective, Params, TaughtObjective

# Sums in another order, in float32. What an objective ignores is far more.
_TOLERANCE = 1e-3


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
  for name, (_, objective) in experiment.objectives.items():
    if type(objective).__module__.startswith('mmjax.'):
      continue  # Those are compared in mmjax's tests.
    if isinstance(objective, TaughtObjective):
      hosts.log(_explain_skipped(name, 'has a teacher'))
      continue
    compare = _make_compare(
      experiment, objective, program.mesh, config.train.accumulate
    )
    losses = compare(prepared_run.state.params, prepared_run.batch)
    whole, again, split = map(float, jax.device_get(losses))
    if not _are_close(whole, again):
      hosts.log(_explain_skipped(name, 'draws random numbers'))
    elif not _are_close(whole, split):
      raise ConfigError(
        f'tasks.{name}: {type(objective).__name__} is {whole:.4g} on a whole '
        f'batch, but {split:.4g} on the {program.mesh.size} devices of '
        "mesh.style='pmap': where axis_name is set, its arrays are those of "
        'one device; compare them with those of all devices, '
        'mmjax.parallel.collectives.gather(array, axis_name), or use '
        "mesh.style='pjit'"
      )


def _explain_skipped(name: str, why: str) -> str:
  return (
    f'note: the loss of tasks.{name} {why}, so it was not compared between one '
    "device and several; with mesh.style='pjit' it needs no code for devices"
  )


def _are_close(a: float, b: float) -> bool:
  return bool(np.isclose(a, b, _TOLERANCE, _TOLERANCE**2, equal_nan=True))


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

  def run(params, batch):
    part = step_lib.first_micro_batch(batch, accumulate)
    inputs = experiment.make_inputs(part)
    outputs = model.apply(
      {'params': params}, inputs, train=True, rngs={'dropout': key}
    )
    return outputs, inputs

  def loss(params, outputs, inputs, key, axis_name=None):
    apply = functools.partial(model.apply, {'params': params})
    return objective(
      outputs, inputs, apply=apply, rng=key, axis_name=axis_name
    )[0]

  def loss_of_device(params, outputs, inputs):
    # As `mmjax.training.step` sums them.
    count = objective.count(inputs).astype(jnp.float32)
    total = jnp.maximum(jax.lax.psum(count, 'data'), 1e-9)
    device_key = jax.random.fold_in(key, jax.lax.axis_index('data'))
    value = loss(params, outputs, inputs, device_key, 'data')
    return jax.lax.psum(count / total * value, 'data')

  def compare(params, batch):
    specs = _find_specs(run, params, batch, accumulate)
    outputs, inputs = run(params, batch)
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


def _find_specs(
  run: Any, params: Params, batch: Mapping[str, Any], accumulate: int
) -> Any:
  """How devices split what `run` returns: by examples, or not at all.

  An axis is that of the examples if it is longer for a larger batch. Others,
  such as that of a vocabulary's kernel, may have the same length by chance.
  """

  def shapes(more: int) -> Any:
    larger = {
      name: jax.ShapeDtypeStruct(
        (len(x) + more * accumulate, *x.shape[1:]), x.dtype
      )
      for name, x in batch.items()
    }
    return jax.eval_shape(run, params, larger)

  split = lambda a, b: (
    jax.P(mesh_lib.BATCH_AXES) if a.shape != b.shape else jax.P()
  )
  return jax.tree.map(split, shapes(0), shapes(1))
