"""A run: its folder, data, model and state, then training."""

import contextlib
import statistics
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.runs import checkpoints as checkpoints_lib
from mmjax.runs import disk, experiment_record, folder, init_from, owner
from mmjax.training import (
  accumulated_losses,
  compilations,
  device_losses,
  flops,
  loop,
  model_flops,
  prepared,
  profiling,
  progress,
  schedule,
  startup,
  stopping,
  teachers,
)
from mmjax.training import program as program_lib
from mmjax.training.experiment import Build, Experiment


def run(
  config: Any,
  build: Build,
  workdir: Path | str,
  *,
  should_stop: loop.ShouldStop | None = None,
  profile_steps: range | None = None,
  flags: Collection[str] = (),
) -> dict[str, float]:
  """Trains one experiment, from the start or from where it stopped.

  Args:
    config: ml_collections config; missing fields get their defaults.
    build: (config, mesh) -> Experiment.
    workdir: the run's folder. If it holds checkpoints, the run resumes from the
      newest; if it is finished, its results are shown again.
    should_stop: function called on every host with each evaluation during
      training, before its step is saved; if it returns True (on all hosts
      alike), the run saves and ends there.
    profile_steps: numbers of the steps, from 1, that are traced to the folder's
      `profile/`; None for none.
    flags: paths of the fields that the user set for this run, by flags, as of
      `init_from.resolve`.

  Returns:
    The last evaluation, name -> number, as in results.json; empty if a signal
    stopped the run before its end.

  Raises:
    OccupiedError: if another process runs in the folder.
    ConfigError: if a value of the config, the data or the folder is refused.
    FullError: if a disk is full.
    NonFiniteError: if a loss or gradient is NaN or infinite.
    SystemExit: 143 after SIGTERM, when all is saved.
  """
  timer = startup.Timer()
  with hosts.raise_together():
    config = init_from.resolve(settings.complete(config), flags)
    settings.validate(config)
    profiling.check(profile_steps, done=0, total=config.train.steps)
    run_folder = folder.RunFolder(workdir)
  hosts.create_shared_folder(run_folder.path)
  results = _finished(config, run_folder, profile_steps)
  if results:
    return results
  startup.use_compilation_cache()
  mesh = program_lib.mesh_of(config)
  timer.lap('imports')
  with disk.reporting(run_folder.path), contextlib.ExitStack() as stack:
    _claim(run_folder, stack)
    # Another process may have run there until now.
    results = _finished(config, run_folder, profile_steps)
    if results:
      return results
    return _set_up(
      config, build, run_folder, mesh, should_stop, profile_steps, timer, stack
    ).run()


def check(config: Any, build: Build, flags: Collection[str] = ()) -> None:
  """Refuses what `run` would refuse of the config and the data.

  It opens the data and finds the shapes of the model, but traces no objective
  and compiles nothing. What depends on the run's folder or on the devices is
  checked by `run` alone.

  Args:
    config: config, as in `run`.
    build: build, as in `run`.
    flags: flags, as in `run`.

  Raises:
    ConfigError: if a value of the config or the data is refused.
  """
  config = init_from.resolve(settings.complete(config), flags)
  settings.validate(config)
  mesh = program_lib.mesh_of(config)
  experiment = build(config, mesh)
  program_lib.build(config, experiment, mesh)
  _check_keep_best(config.train.keep_best, experiment)


def _finished(
  config: Any, run_folder: folder.RunFolder, profile_steps: range | None
) -> dict[str, float]:
  """Results of a run that is finished, printed once more; else {}.

  Raises:
    ConfigError: if it is finished, and some of its steps should be traced.
  """
  with hosts.raise_together():
    run_folder.check(config)
    results = run_folder.results()
  if results.get('step') != config.train.steps:
    return {}
  profiling.check(
    profile_steps, done=config.train.steps, total=config.train.steps
  )
  steps = config.train.steps
  hosts.log(
    f'{run_folder.path} is finished: all {steps} steps are done, so nothing is '
    f'trained; a larger train.steps continues it, as in --config.train.steps='
    f'{2 * steps}. Its results:\n{folder.table(results)}'
  )
  return results


def _claim(run_folder: folder.RunFolder, stack: contextlib.ExitStack) -> None:
  """Locks the folder until `stack` closes, on the first host for all.

  Raises:
    OccupiedError: on all hosts, if another process has it.
    ConfigError: if the folder can't be written.
  """
  refusal = None
  with hosts.raise_together():
    if run_folder.writes:
      try:
        stack.enter_context(owner.claim(run_folder.path, log=hosts.log))
      except owner.OccupiedError as error:
        refusal = error
  if hosts.any_host(refusal is not None):
    raise refusal or owner.OccupiedError(
      f'{run_folder.path} is in use; process 0 says by whom'
    )


def _set_up(
  config: Any,
  build: Build,
  run_folder: folder.RunFolder,
  mesh: jax.sharding.Mesh,
  should_stop: loop.ShouldStop | None,
  profile_steps: range | None,
  timer: startup.Timer,
  stack: contextlib.ExitStack,
) -> loop.Loop:
  """Builds, compiles and restores all that training needs."""
  stop = stack.enter_context(stopping.Stopping())
  with hosts.raise_together():
    experiment = build(config, mesh)
    timer.lap('data')
    program = program_lib.build(config, experiment, mesh)
    timer.lap('init')
    _check_keep_best(config.train.keep_best, experiment)
    teachers.check_same(experiment.frozen_models, run_folder.path)
  for note in experiment.notes:
    hosts.log(f'note: {note}')
  checkpoints = _open_checkpoints(config.train, run_folder, stack)
  profiling.check(
    profile_steps, done=checkpoints.latest() or 0, total=config.train.steps
  )
  prepared_run = prepared.prepare(
    config, experiment, program, checkpoints, stack, timer
  )
  device_losses.check(config, experiment, program, prepared_run)
  accumulated_losses.check(config, experiment, program, prepared_run)
  _log_changes(config, run_folder, prepared_run.step)
  files = {**experiment.files, **teachers.files(experiment.frozen_models)}
  run_folder.begin(config, {**files, **init_from.files(config)})
  meter = _make_meter(config, experiment, program, prepared_run)
  meter.train_seconds = run_folder.trained_seconds(prepared_run.step)
  writer = run_folder.open_writers(config, prepared_run.step)
  stack.callback(writer.close)
  profile = profiling.Profile(run_folder.path, profile_steps, meter, hosts.log)
  stack.callback(profile.close)
  return loop.Loop(
    config=config,
    experiment=experiment,
    folder=run_folder,
    checkpoints=checkpoints,
    writer=writer,
    meter=meter,
    line=progress.make(config.train.steps),
    timer=timer,
    compilations=stack.enter_context(compilations.Compilations()),
    profile=profile,
    stop=stop,
    should_stop=should_stop,
    prepared=prepared_run,
    state=prepared_run.state,
    step=prepared_run.step,
  )


def _log_changes(config: Any, run_folder: folder.RunFolder, step: int) -> None:
  """Prints what differs from the process before, if there was one."""
  steps = run_folder.steps(), config.train.steps
  for note in (
    schedule.change(config.optimizer, *steps, step),
    experiment_record.describe_change(run_folder.path, config.experiment),
  ):
    if note:
      hosts.log(note)


def _open_checkpoints(
  train: Any, run_folder: folder.RunFolder, stack: contextlib.ExitStack
) -> checkpoints_lib.Checkpoints:
  """Opens the run's checkpoints until `stack` closes."""
  checkpoints = checkpoints_lib.Checkpoints(
    run_folder.path,
    keep_last=train.keep_last,
    keep_best=train.keep_best,
    best_mode=train.best_mode,
  )
  stack.callback(checkpoints.close)
  return checkpoints


def _make_meter(
  config: Any,
  experiment: Experiment,
  program: program_lib.Program,
  prepared_run: prepared.PreparedRun,
) -> progress.Meter:
  """Measures speed, and FLOPs utilisation where the device's peak is known."""
  peak, needed = flops.peak_of(program.mesh.devices.flat), 0.0
  if peak and prepared_run.batch is not None:
    params = program.plan.abstract.params
    batch = program.find_update_batch(prepared_run.batch)
    kinds = prepared.list_batch_shapes(config, experiment, program.mesh, batch)
    # Of several, each is drawn as often.
    needed = statistics.mean(
      model_flops.count(config, experiment, params, kind) for kind in kinds
    )
  return progress.Meter(flops=needed, peak=peak)


def _check_keep_best(metric: str, experiment: Experiment) -> None:
  """Refuses a metric of an evaluator that the experiment doesn't have.

  Raises:
    ConfigError: naming the evaluators of validation.
  """
  names = experiment.evaluators.get('val', {})
  if metric and not any(metric.startswith(f'val/{name}/') for name in names):
    listed = ', '.join(f'val/{name}/...' for name in names)
    raise ConfigError(
      f'train.keep_best={metric!r} is not a metric of the evaluation; there '
      f'are {listed}'
    )
