"""All that a run needs before its first step: programs, a state, a batch."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mmjax.data import variants
from mmjax.errors import ConfigError
from mmjax.nn import quantized
from mmjax.parallel import hosts
from mmjax.parallel import mesh as mesh_lib
from mmjax.runs import checkpoints as checkpoints_lib
from mmjax.runs import init_from
from mmjax.training import adapting, prefetch, rollouts, startup
from mmjax.training import program as program_lib
from mmjax.training import state as state_lib
from mmjax.training.experiment import Experiment
from mmjax.types import Params

# From this number of parameters on, a CPU draws the initial ones by an
# optimised program: that takes a second to compile, and without it drawing 150
# million takes nine seconds longer.
_MANY_PARAMS = 10_000_000


@dataclasses.dataclass(frozen=True)
class PreparedRun:
  """A run before its first step.

  Attributes:
    step: number of steps done before.
    state: the newest saved state, or the initial one.
    update: the compiled step, with its rollout; None if there is no step left.
    batches: the training batches after `batch`, which is number `step`.
    batch: the first one; None if there is no step left.
  """

  step: int
  state: state_lib.State
  update: Callable[..., Any] | None
  batches: prefetch.Prefetch
  batch: Any


def prepare(
  config: Any,
  experiment: Experiment,
  program: program_lib.Program,
  checkpoints: checkpoints_lib.Checkpoints,
  stack: contextlib.ExitStack,
  timer: startup.Timer,
) -> PreparedRun:
  """Resumes from the newest checkpoint that can be read, or starts.

  Args:
    config: a completed config.
    experiment: the experiment to train.
    program: its programs, not compiled yet.
    checkpoints: the run's checkpoints.
    stack: closes the batches.
    timer: measures the parts of the start-up.

  Raises:
    ConfigError: if the run has more steps than the config wants, no checkpoint
      can be read, or a record or `init_from` is refused.
  """
  put = lambda batch: mesh_lib.shard_batch(batch, program.mesh)
  while True:
    step = _steps_done(config, checkpoints)
    if not checkpoints.latest():
      _check_start(config, experiment.model, program.plan.abstract.params)
    # Reads while the programs compile, and then up to two batches ahead.
    batches = stack.enter_context(
      prefetch.Prefetch(experiment.train_data.iterate(step), put=put)
    )
    timer.lap('data')
    try:
      return _start(
        config, program, experiment, checkpoints, step, batches, timer
      )
    except checkpoints_lib.CheckpointRenamedError as error:
      batches.close()  # They begin at the step of the damaged checkpoint.
      hosts.log(str(error))


def _check_start(config: Any, model: Any, params: Params) -> None:
  """Refuses parameters that would wrongly stay random, before compiling."""
  params = quantized.as_plain(params)
  read = init_from.find_paths(config, params) if config.init_from else ()
  parts = getattr(model, 'pretrained_parts', ())
  adapting.check_read(config, params, read, parts)


def _start(
  config, program, experiment, checkpoints, step, batches, timer
) -> PreparedRun:
  """Compiles `init` (not when restoring), and `update` for each shape."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    state = pool.submit(_make_state, program.plan, config, checkpoints)
    if step == config.train.steps:
      return PreparedRun(step, state.result(), None, batches, None)
    batch = call_or_exit(next, batches)
    timer.lap('data')
    kinds = list_batch_shapes(
      config, experiment, program.mesh, program.find_update_batch(batch)
    )
    number = len(kinds)
    lengths = f' for batches of {number} shapes' if number > 1 else ''
    hosts.log(f'compiling the training step{lengths}')
    compiled = {
      _find_shapes(kind): program.trace(kind).lower().compile()
      for kind in kinds
    }
    update = functools.partial(
      _update, compiled, program.put(experiment.frozen_models)
    )
    if program.rollout is not None:
      update = rollouts.compile_before(update, program, batch)
    timer.lap('compile')
    start = PreparedRun(
      step, call_or_exit(state.result), update, batches, batch
    )
    timer.lap('init')
    return start


def list_batch_shapes(
  config: Any,
  experiment: Experiment,
  mesh: jax.sharding.Mesh,
  batch: Mapping[str, Any],
) -> list[dict[str, Any]]:
  """One batch for each set of shapes that training batches have.

  Args:
    config: a completed config.
    experiment: its experiment.
    mesh: devices of the batch.
    batch: arrays of the mesh.

  Returns:
    The batch itself, if all are alike; else `ShapeDtypeStruct`s for each
    variant.
  """
  if not experiment.variants:
    return [dict(batch)]
  multiple = mesh_lib.num_batch_shards(mesh) * config.train.accumulate

  def change(variant: variants.Variant) -> dict[str, jax.ShapeDtypeStruct]:
    size = variant.count_examples(config.train.batch_size, multiple)
    return {
      key: jax.ShapeDtypeStruct(
        (size, *variant.shapes.get(key, x.shape[1:])),
        x.dtype,
        sharding=x.sharding,
      )
      for key, x in batch.items()
    }

  return [change(variant) for variant in experiment.variants]


def _find_shapes(batch: Mapping[str, Any]) -> tuple[Any, ...]:
  return tuple(sorted((key, array.shape) for key, array in batch.items()))


def _update(
  compiled: Mapping[tuple[Any, ...], Callable[..., Any]],
  frozen_params: Mapping[str, Any],
  state: Any,
  batch: Any,
) -> tuple[Any, Any]:
  """One step by the program of the batch's shapes."""
  return compiled[_find_shapes(batch)](state, batch, frozen_params)


def _make_state(
  plan: state_lib.Plan, config: Any, checkpoints: checkpoints_lib.Checkpoints
) -> state_lib.State:
  """Restores the state, or computes the initial one, sharded from the start."""
  if checkpoints.latest():
    return checkpoints.restore(plan.abstract)
  seed = np.uint32(config.seed)
  init = jax.jit(plan.init, out_shardings=plan.shardings).lower(seed)
  options = None
  if jax.default_backend() == 'cpu':
    # It runs once: what optimising costs must be won back by that.
    size = sum(
      math.prod(x.shape) for x in jax.tree.leaves(plan.abstract.params)
    )
    level = 0 if size < _MANY_PARAMS else 1
    options = {'xla_backend_optimization_level': level}
  compiled = init.compile(compiler_options=options)
  state = jax.block_until_ready(compiled(seed))
  if not config.init_from:
    return state
  params = init_from.load(config, plan.abstract.params)
  return adapting.reset_magnitudes(state_lib.with_params(state, params))


def _steps_done(config: Any, checkpoints: checkpoints_lib.Checkpoints) -> int:
  """Step of the newest checkpoint, at most `train.steps`."""
  step = checkpoints.latest() or 0
  if step > config.train.steps:
    raise ConfigError(
      f'train.steps={config.train.steps}, but the run in this folder has done '
      f'{step}; choose another --workdir'
    )
  return step


def call_or_exit(function: Callable[..., Any], *args: Any) -> Any:
  """Calls what may fail on this host alone, while others wait in a collective.

  Then this process ends, so that they don't wait for it. All hosts raise
  `CheckpointRenamedError`.
  """
  with hosts.exit_on_error(checkpoints_lib.CheckpointRenamedError):
    return function(*args)
