"""All that a run needs before its first step: programs, a state, a batch."""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmjax.parallel import hosts
from mmjax.parallel import mesh as mesh_lib
from mmjax.train import checkpoints as checkpoints_lib
from mmjax.train import (
  init_from,
  prefetch,
  program,
  progress,
  settings,
  startup,
)
from mmjax.train import state as state_lib
from mmjax.train.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Start:
  """A run at its first step.

  Attributes:
    begun: steps done before.
    state: the newest one that was saved, or the initial one.
    update: the compiled step; None if there is no step left.
    batches: those from step `begun` on, but for `batch`.
    batch: the first one; None if there is no step left.
  """

  begun: int
  state: state_lib.State
  update: Callable[..., Any] | None
  batches: prefetch.Prefetch
  batch: Any


def prepare(
  config: Any,
  experiment: Experiment,
  made: program.Program,
  mesh: jax.sharding.Mesh,
  checkpoints: checkpoints_lib.Checkpoints,
  stack: contextlib.ExitStack,
  clock: startup.Clock,
) -> Start:
  """Resumes from the newest checkpoint that is whole, or starts.

  Args:
    config: a completed config.
    experiment: what is trained.
    made: its programs, not compiled yet.
    mesh: of the devices.
    checkpoints: the run's.
    stack: closes the batches.
    clock: takes the times.

  Raises:
    UserError: on anything the user can put right.
  """
  put = lambda batch: mesh_lib.shard_batch(batch, mesh)
  while True:
    begun = _begun(config, checkpoints)
    # Reads while the programs compile, and from then on one batch ahead.
    batches = stack.enter_context(
      prefetch.Prefetch(experiment.train_data.iterate(begun), put=put)
    )
    clock.lap('data')
    try:
      return _start(config, made, checkpoints, begun, batches, clock)
    except checkpoints_lib.SetAside as error:
      batches.close()  # They begin at a step that is not there any more.
      progress.tell(str(error))


def _start(config, made, checkpoints, begun, batches, clock) -> Start:
  """Compiles two programs, `init` (or none, when restoring) and `update`."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    state = pool.submit(_make_state, made.plan, config, checkpoints)
    if begun == config.train.steps:
      return Start(begun, state.result(), None, batches, None)
    batch = alone(as_users_mistake, next, batches)
    clock.lap('data')
    progress.tell('compiling the training step')
    compiled = as_users_mistake(made.trace, batch).lower().compile()
    clock.lap('compile')
    start = Start(begun, alone(state.result), compiled, batches, batch)
    clock.lap('init')
    return start


def _make_state(
  plan: state_lib.Plan, config: Any, checkpoints: checkpoints_lib.Checkpoints
) -> state_lib.State:
  """Restores the state, or computes the first one where it will lie."""
  if checkpoints.latest():
    return checkpoints.restore(plan.abstract)
  seed = np.uint32(config.seed)
  init = jax.jit(plan.init, out_shardings=plan.shardings).lower(seed)
  # It runs once: on CPUs, optimising it takes longer than all else.
  quick = {'xla_backend_optimization_level': 0}
  on_cpu = jax.default_backend() == 'cpu'
  compiled = init.compile(compiler_options=quick if on_cpu else None)
  state = jax.block_until_ready(compiled(seed))
  if not config.init_from:
    return state
  given = init_from.load(config, plan.abstract.params)
  return state_lib.with_params(state, given)


def _begun(config: Any, checkpoints: checkpoints_lib.Checkpoints) -> int:
  """Steps done so far, not more than the run shall have."""
  begun = checkpoints.latest() or 0
  if begun > config.train.steps:
    raise settings.UserError(
      f'train.steps={config.train.steps}, but the run in this folder has done '
      f'{begun}; choose another --workdir'
    )
  return begun


def alone(function: Callable[..., Any], *args: Any) -> Any:
  """What one host alone may fail at must not leave the others waiting."""
  with hosts.ending_together(told=(settings.UserError,)):
    return function(*args)


def as_users_mistake(
  function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
  """Before the first step, a refused value is one that the user gave."""
  try:
    return function(*args, **kwargs)
  except settings.UserError:
    raise
  except (ValueError, OSError) as error:
    raise settings.UserError(str(error)) from error
