"""The loop: data, model, state, restore, then step, log, evaluate, save."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from mmjax.parallel import hosts
from mmjax.train import checkpoints as checkpoints_lib
from mmjax.train import (
  disk,
  flops,
  folder,
  init_from,
  owner,
  program,
  progress,
  schedule,
  settings,
  startup,
  stopping,
  useful,
  writers,
)
from mmjax.train import start as start_lib
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
    OccupiedError: if another process runs in the folder.
    UserError: on anything the user can put right, before the first step.
    FullError: if a disk is full.
    NonFiniteError: if a loss or gradient is NaN or infinite.
    SystemExit: 143, if SIGTERM asked it to stop, when all is saved.
  """
  clock = startup.Clock()
  with hosts.agreeing():
    config = init_from.resolve(settings.complete(config))
    settings.validate(config)
    run_folder = folder.RunFolder(workdir)
  start_lib.as_users_mistake(hosts.meet_in, run_folder.path)
  results = _finished(config, run_folder)
  if results:
    return results
  startup.use_compilation_cache()
  mesh = start_lib.as_users_mistake(program.mesh_of, config)
  clock.lap('imports')
  with disk.reporting(run_folder.path), contextlib.ExitStack() as stack:
    _claim(run_folder, stack)
    # Another process may have been there until now.
    results = _finished(config, run_folder)
    if results:
      return results
    return _run(config, build, run_folder, mesh, report, clock, stack)


def _finished(config: Any, run_folder: folder.RunFolder) -> dict[str, float]:
  """Results of a run that is finished, once more; else {}."""
  with hosts.agreeing():
    run_folder.check(config)
    results = run_folder.results()
  if results.get('step') != config.train.steps:
    return {}
  progress.tell(
    f'{run_folder.path} is finished; its results:\n{folder.table(results)}'
  )
  return results


def _claim(run_folder: folder.RunFolder, stack: contextlib.ExitStack) -> None:
  """Holds the folder for this run, on the first host for all.

  Raises:
    OccupiedError: on all hosts, if another process has it.
    UserError: if the folder can't be written.
  """
  refusal = None
  with hosts.agreeing():
    if run_folder.writes:
      claim = owner.claim(run_folder.path, say=progress.tell)
      try:
        start_lib.as_users_mistake(stack.enter_context, claim)
      except owner.OccupiedError as error:
        refusal = error
  if hosts.any_of(refusal is not None):
    raise refusal or owner.OccupiedError(
      f'{run_folder.path} is in use; process 0 says by whom'
    )


def _run(
  config, build, run_folder, mesh, report, clock, stack
) -> dict[str, float]:
  """A run in a folder that is its own."""
  stop = stack.enter_context(stopping.Stopping())
  experiment, made = start_lib.as_users_mistake(
    _build, config, build, mesh, clock
  )
  for note in experiment.notes:
    progress.tell(f'note: {note}')
  checkpoints = start_lib.as_users_mistake(
    checkpoints_lib.Checkpoints,
    run_folder.path,
    keep_last=config.train.keep_last,
    keep_best=config.train.keep_best,
    best_mode=config.train.best_mode,
  )
  stack.callback(checkpoints.close)
  start = start_lib.prepare(
    config, experiment, made, mesh, checkpoints, stack, clock
  )
  steps = config.train.steps
  change = schedule.change(
    config.optimizer, run_folder.steps(), steps, start.begun
  )
  if change:
    progress.tell(change)
  run_folder.begin(config, {**experiment.files, **init_from.files(config)})
  params, peak = made.plan.abstract.params, flops.peak_of(mesh.devices.flat)
  needed = 0.0
  if peak and start.batch is not None:  # Else nobody asks.
    needed = useful.count(config, experiment, params, start.batch)
  meter = progress.Meter(
    config.train.batch_size,
    flops=needed,
    peak=peak,
    total=run_folder.trained_seconds(start.begun),
  )
  writer = run_folder.open_writers(config, start.begun)
  stack.callback(writer.close)
  line = progress.Progress(steps)
  log = _Log(run_folder, writer, meter, line, clock)
  return _train(config, experiment, start, checkpoints, stop, log, report)


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
  mesh = start_lib.as_users_mistake(program.mesh_of, config)
  start_lib.as_users_mistake(
    program.build, config, start_lib.as_users_mistake(build, config), mesh
  )


@dataclasses.dataclass(frozen=True)
class _Log:
  """What a run tells, and where."""

  folder: folder.RunFolder
  writer: writers.Writers
  meter: progress.Meter
  line: progress.Progress
  clock: startup.Clock


def _train(
  config, experiment, start, checkpoints, stop, log, report
) -> dict[str, float]:
  """Step, log, evaluate, save, until the end, a signal or a report's word."""
  train, meter = config.train, log.meter
  state, batch, done = start.state, start.batch, start.begun
  batches = start.batches
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
      batch = start_lib.alone(
        start_lib.as_users_mistake, meter.next_batch, batches, metrics
      )
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


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0
