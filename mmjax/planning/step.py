"""Compiles the training step of an experiment for devices of any kind."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.nn import quantized
from mmjax.parallel import mesh as mesh_lib
from mmjax.training import adapting, flops, model_flops, prepared, program
from mmjax.training.experiment import Build, Experiment

# Prefix of XLA's message if a step needs more memory than the device has.
_FULL = 'RESOURCE_EXHAUSTED: '


@dataclasses.dataclass(frozen=True)
class Step:
  """A training step, compiled but never run.

  Attributes:
    mesh: size by axis.
    batch_size: examples in a step.
    parameters: number of parameters of the model.
    trained: number of parameters that the optimizer updates.
    held: bytes on one device of the training state and of the batch, by kind:
      'parameters', 'optimizer', 'average' (the EMA), 'teachers' (the frozen
      models), 'batch'.
    flops: FLOPs of the products in a step, on all devices, including those
      repeated by rematerialisation.
    useful_flops: FLOPs without the repeated ones, by
      `mmjax.training.model_flops`.
    compiled: XLA's compiled program.
    text: the compiled program in HLO.
    seconds: seconds that the compilation took.
  """

  mesh: dict[str, int]
  batch_size: int
  parameters: int
  trained: int
  held: dict[str, float]
  flops: float
  useful_flops: float
  compiled: Any
  text: str
  seconds: float


def versions() -> str:
  """Names and versions of the compiling packages."""
  names = ['jax']
  if importlib.util.find_spec('libtpu'):
    names.append('libtpu')
  return ', '.join(f'{n} {importlib.metadata.version(n)}' for n in names)


def compile_step(
  config: Any,
  build: Build,
  devices: Sequence[jax.Device],
) -> Step:
  """Compiles the update that `mmjax.training.runner` would run.

  Args:
    config: completed and valid config.
    build: function (config, mesh) -> Experiment. It is called with a config of
      a small batch, of which one is read for its shapes, and with a mesh of
      this machine's devices.
    devices: devices of the whole slice.

  Raises:
    ConfigError: if the config is refused, or if XLA can't compile the step,
      usually because it doesn't fit into the device's memory.
  """
  mesh = program.mesh_of(config, devices)
  small = _with_small_batch(config)
  experiment = build(small, program.mesh_of(small))
  train_program = program.build(config, experiment, mesh)
  of_data = _find_largest_batch(config, experiment, mesh)
  batch = train_program.find_update_batch(of_data)
  traced = train_program.trace(batch)
  began = time.time()
  compiled, text = _compile(traced)
  seconds = time.time() - began
  plan = train_program.plan
  params = plan.abstract.params
  trained = adapting.find_trained(config, params)
  sizes = jax.tree.map(lambda leaf: leaf.size, params)
  return Step(
    mesh=dict(mesh.shape),
    batch_size=len(next(iter(of_data.values()))),
    parameters=sum(
      leaf.size for leaf in jax.tree.leaves(quantized.as_plain(params))
    ),
    trained=sum(
      jax.tree.leaves(jax.tree.map(lambda n, is_in: n * is_in, sizes, trained))
    ),
    held={
      'parameters': _bytes_per_device(params),
      'optimizer': _bytes_per_device(plan.abstract.opt_state),
      'average': _bytes_per_device(plan.abstract.ema),
      'teachers': _bytes_per_device(train_program.frozen_params),
      'batch': _bytes_per_device(batch),
    },
    flops=flops.count(traced.jaxpr),
    useful_flops=model_flops.count(config, experiment, params, batch),
    compiled=compiled,
    text=text,
    seconds=seconds,
  )


def _compile(traced: jax.stages.Traced) -> tuple[jax.stages.Compiled, str]:
  try:
    compiled = traced.lower().compile()
    return compiled, compiled.as_text()
  except jax.errors.JaxRuntimeError as error:
    raise ConfigError(_reason(str(error))) from error


def _with_small_batch(config: Any) -> Any:
  """Copies the config with a batch that is quick to read."""
  out = settings.complete(config)
  with out.unlocked():
    # The batch is read on this machine, whatever the step is compiled for.
    out.train.batch_size = jax.device_count() * config.train.accumulate
    out.data.num_threads, out.data.num_workers = 0, 0
    out.mesh.update(data=-1, fsdp=1, tensor=1, sequence=1)
  return out


def _find_largest_batch(
  config: Any, experiment: Experiment, mesh: jax.sharding.Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of the training batch with the most numbers."""
  batch = _batch(experiment, config.train.batch_size, mesh)
  return max(
    prepared.list_batch_shapes(config, experiment, mesh, batch),
    key=lambda kind: sum(math.prod(array.shape) for array in kind.values()),
  )


def _batch(
  experiment: Experiment, batch_size: int, mesh: jax.sharding.Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a training batch, taken from a small batch of the same data."""
  batches = experiment.train_data.iterate(0)
  small = next(batches)
  if hasattr(batches, 'close'):
    batches.close()
  sharding = mesh_lib.batch_sharding(mesh)
  return {
    name: jax.ShapeDtypeStruct(
      (batch_size, *np.shape(array)[1:]),
      jax.dtypes.canonicalize_dtype(array.dtype),
      sharding=sharding,
    )
    for name, array in small.items()
  }


def _reason(message: str) -> str:
  """Extracts from XLA's message why a step does not compile."""
  lines = [line.strip() for line in message.splitlines() if line.strip()]
  used = next((line for line in lines if ' hbm' in line and 'Used' in line), '')
  if used:
    return f'does not fit: {used[used.index("Used") :]}'
  if lines and lines[0].startswith(_FULL):
    return f'does not fit: {lines[0].removeprefix(_FULL)}'
  return (
    f'does not compile with {versions()}: {lines[0][:200] if lines else ""}; '
    "'mmjax[tpu]' installs the libtpu that matches a jax"
  )


def _bytes_per_device(tree: Any) -> float:
  """Bytes of one device's shards of abstract arrays."""
  return float(
    sum(
      np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
    )
  )
