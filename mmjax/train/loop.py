"""The loop: data, model, state, restore, then step, log, evaluate, save."""

import concurrent.futures
import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.parallel import hosts
from mmjax.parallel import mesh as mesh_lib
from mmjax.train import checkpoints as checkpoints_lib
from mmjax.train import (
  flops,
  folder,
  init_from,
  prefetch,
  program,
  progress,
  settings,
  startup,
  stopping,
  useful,
  writers,
)
from mmjax.train import state as state_lib
from mmjax.train.experiment import Experiment


class NonFiniteError(ArithmeticError):
  """A loss or gradient that is no number ended the run."""


# Told a step and its evaluation, says whether the run shall end there.
Report = Callable[[int, Mapping[str, float]], bool]


def run(
  config: Any,
  build: Callable[[Any], Experiment],
  workdir: Path | str,
  *,
  report: Report | None = None,
) -> dict[str, float]:
  """Trains one experiment, from the start or from where it stopped.

  Args:
    config: ml_collections config; missing fields get their defaults.
    build: config -> Experiment.
    workdir: the run's folder. If it holds checkpoints, the run goes on from
      the newest; if it is finished, its results are shown again.
    report: called on every host with each evaluation during training, before
      its step is saved; if it answers True (on all hosts alike), the run saves
      and ends there.

  Returns:
    The last evaluation, name -> number, as in results.json; empty if a signal
    asked the run to stop before its end.

  Raises:
    UserError: on anything the user can put right, before the first step.
    NonFiniteError: if a loss or gradient is NaN or infinite.
    SystemExit: 143, if SIGTERM asked it to stop, when all is saved.
  """
  clock = startup.Clock()
  with hosts.agreeing():
    config = init_from.resolve(settings.complete(config))
    settings.validate(config)
    run_folder = folder.RunFolder(workdir)
  _users(hosts.meet_in, run_folder.path)
  with hosts.agreeing():
    run_folder.check(config)
  results = run_folder.results()
  if results.get('step') == config.train.steps:
    progress.tell(
      f'{workdir} is finished; its results:\n{folder.table(results)}'
    )
    return results
  startup.use_compilation_cache()
  mesh = _users(program.mesh_of, config)
  clock.lap('imports')

  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(stopping.Stopping())
    experiment, made = _users(_build, config, build, mesh, clock)
    # From here on the run's folder is there.
    checkpoints = _users(
      checkpoints_lib.Checkpoints,
      run_folder.path,
      keep_last=config.train.keep_last,
      keep_best=config.train.keep_best,
      best_mode=config.train.best_mode,
    )
    stack.callback(checkpoints.close)
    begun = _begun(config, checkpoints)
    # Reads while the programs compile, and from then on one batch ahead.
    batches = stack.enter_context(
      prefetch.Prefetch(
        experiment.train_data.iterate(begun),
        put=lambda batch: mesh_lib.shard_batch(batch, mesh),
      )
    )
    clock.lap('data')
    start = _start(config, made, checkpoints, batches, clock)
    run_folder.begin(config, {**experiment.files, **init_from.files(config)})
    params, peak = made.plan.abstract.params, flops.peak_of(mesh.devices.flat)
    needed = 0.0
    if peak and start.batch is not None:  # Else nobody asks.
      needed = useful.count(config, experiment, params, start.batch)
    meter = progress.Meter(
      config.train.batch_size,
      flops=needed,
      peak=peak,
      total=run_folder.trained_seconds(begun),
    )
    writer = run_folder.open_writers(config, begun)
    stack.callback(writer.close)
    log = _Log(
      run_folder, writer, meter, progress.Progress(config.train.steps), clock
    )
    return _train(
      config, experiment, start, checkpoints, batches, stop, log, report
    )


def _build(
  config: Any,
  build: Callable[[Any], Experiment],
  mesh: jax.sharding.Mesh,
  clock: startup.Clock,
) -> tuple[Experiment, program.Program]:
  """What the experiment and the programs are, on all hosts or on none."""
  with hosts.agreeing():
    experiment = build(config)
    clock.lap('data')
    made = program.build(config, experiment, mesh)
    clock.lap('init')
    return experiment, made


def check(config: Any, build: Callable[[Any], Experiment]) -> None:
  """Refuses what `run` would refuse before its first step; computes nothing.

  Args:
    config: as of `run`.
    build: as of `run`.

  Raises:
    UserError: on anything the user can put right.
  """
  config = init_from.resolve(settings.complete(config))
  settings.validate(config)
  mesh = _users(program.mesh_of, config)
  _users(program.build, config, _users(build, config), mesh)


@dataclasses.dataclass(frozen=True)
class _Start:
  """What `_start` makes ready: all that was compiled, and the first batch."""

  begun: int
  state: state_lib.State
  update: Callable[..., Any] | None
  batch: Any


@dataclasses.dataclass(frozen=True)
class _Log:
  """What a run tells, and where."""

  folder: folder.RunFolder
  writer: writers.Writers
  meter: progress.Meter
  line: progress.Progress
  clock: startup.Clock


def _start(config, made, checkpoints, batches, clock) -> _Start:
  """Compiles two programs, `init` (or none, when restoring) and `update`."""
  begun = checkpoints.latest() or 0
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    state = pool.submit(_make_state, made.plan, config, checkpoints)
    if begun == config.train.steps:
      return _Start(begun, state.result(), None, None)
    batch = _alone(_users, next, batches)
    clock.lap('data')
    progress.tell('compiling the training step')
    compiled = _users(made.trace, batch).lower().compile()
    clock.lap('compile')
    start = _Start(begun, _alone(state.result), compiled, batch)
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


def _train(
  config, experiment, start, checkpoints, batches, stop, log, report
) -> dict[str, float]:
  """Step, log, evaluate, save, until the end, a signal or a report's word."""
  train, meter = config.train, log.meter
  state, batch, done = start.state, start.batch, start.begun
  if done:
    log.line.say(f'going on from step {done}')
  unchecked = None
  while done < train.steps:
    state, metrics = start.update(state, batch)
    done += 1
    meter.step()
    # One step late, so that the devices always have the next one to do.
    _check(unchecked, meter)
    unchecked = done, metrics

    last, first = done == train.steps, done == start.begun + 1
    logs = first or last or _due(done, train.log_every)
    stops = stop.agreed(meet=logs)
    evaluates = _due(done, train.eval_every) and not last and not stops
    saves = stops or last or _due(done, train.checkpoint_every)
    if logs or evaluates or saves:
      unchecked = _check(unchecked, meter)
    if logs:
      _write_numbers(log, done, metrics, first)
    with meter.paused():
      found, results, ends = {}, {}, False
      if evaluates:
        found = _evaluate(experiment, 'val', state, done, stop, log)
        if found:
          results = log.folder.save_results(found, done, meter.total)
          ends = report is not None and report(done, found)
        stops = stop.agreed()
      # The last step is saved with its evaluation, by `_finish`.
      if ((saves or stops or ends) and not last) or (found and train.keep_best):
        checkpoints.save(state, found)
    if (stops or ends) and not last:
      checkpoints.wait()
      log.line.say(f'stopped at step {done}; the same command goes on from it')
      if not stops:
        return results
      stop.leave()
      return {}
    if not last:
      # A record that can't be read is the user's to repair, whenever it comes.
      batch = _alone(_users, meter.next_batch, batches, metrics)
  return _finish(config, experiment, state, done, checkpoints, stop, log)


def _finish(
  config, experiment, state, done, checkpoints, stop, log
) -> dict[str, float]:
  """The last evaluations, with the state on its way to the disk."""
  if not config.train.keep_best:
    checkpoints.save(state)
  found = _evaluate(experiment, 'val', state, done, stop, log, tell=False)
  checkpoints.save(state, found)  # Judged by them, if there is a keep_best.
  found |= _evaluate(experiment, 'test', state, done, stop, log, tell=False)
  checkpoints.wait()
  if stop.agreed():
    log.line.say(
      f'stopped at step {done}, before the last evaluation was done; the same '
      'command makes up for it'
    )
    stop.leave()
    return {}
  results = log.folder.save_results(found, done, log.meter.total)
  log.line.say(f'finished in {progress.duration(log.meter.total)}; results:')
  log.line.say(folder.table(results))
  return results


def _evaluate(
  experiment, split, state, done, stop, log, tell=True
) -> dict[str, float]:
  """Runs a split's evaluators; numbers as SPLIT/NAME, pictures as files.

  A signal in the middle leaves the other evaluators out, and there are no
  results.
  """
  results: dict[str, float] = {}
  for name, evaluator in experiment.evaluators.get(split, {}).items():
    if stop.agreed():
      return {}
    for key, value in evaluator.run(state.eval_params):
      path = f'{split}/{key}'
      if path in results:
        raise ValueError(f'two evaluators of {split} yield {key!r}')
      results[path] = float(value)
    log.folder.save_picture(evaluator.picture(), split, name, done)
  if results:
    log.writer.write(done, results)
    if tell:
      log.line.say(f'step {done}\n{folder.table(results)}')
  return results


def _write_numbers(
  log: _Log, done: int, metrics: Mapping[str, Any], first: bool
) -> None:
  """The step's own numbers, and the speed since the last time."""
  values = {name: float(v) for name, v in jax.device_get(metrics).items()}
  values |= log.meter.report()
  if first:
    log.clock.lap('first step')
    values |= log.clock.report()
    log.line.say(str(log.clock))
  log.writer.write(done, values)
  log.line.show(done, values, first=first)


def _check(
  unchecked: tuple[int, Mapping[str, Any]] | None, meter: progress.Meter
) -> None:
  """Waits for a step's metrics and ends the run if one is no number."""
  if unchecked is None:
    return
  number, metrics = unchecked
  values = jax.device_get(metrics)
  if 'replaced' in values:
    meter.replaced(values['replaced'])
  watched = {n: float(v) for n, v in values.items() if n.startswith('loss/')}
  watched['grad_norm'] = float(values['grad_norm'])
  bad = [f'{n}={v}' for n, v in watched.items() if not math.isfinite(v)]
  if bad:
    raise NonFiniteError(
      f'step {number}: {", ".join(bad)}; nothing was saved of it. Lower '
      'optimizer.lr or optimizer.clip_norm, or look at the batch of this step; '
      'the same command goes on from the last checkpoint'
    )


def _begun(config: Any, checkpoints: checkpoints_lib.Checkpoints) -> int:
  """Steps done so far, not more than the run shall have."""
  begun = checkpoints.latest() or 0
  if begun > config.train.steps:
    raise settings.UserError(
      f'train.steps={config.train.steps}, but the run in this folder has done '
      f'{begun}; choose another --workdir'
    )
  return begun


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0


def _alone(function: Callable[..., Any], *args: Any) -> Any:
  """What one host alone may fail at must not leave the others waiting."""
  with hosts.ending_together(told=(settings.UserError,)):
    return function(*args)


def _users(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
  """Before the first step, a refused value is one that the user gave."""
  try:
    return function(*args, **kwargs)
  except (ValueError, OSError) as error:
    raise settings.UserError(str(error)) from error
