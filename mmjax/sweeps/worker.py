"""What a worker does: take a trial, run it, store its result, repeat."""

import collections
import contextlib
import gc
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mmjax.config import settings
from mmjax.errors import ConfigError, RunError
from mmjax.parallel import hosts
from mmjax.runs import checkpoints, disk, owner
from mmjax.sweeps import best, lease, storage
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import stopping, training

# (config, workdir, report) -> results, as `mmjax.train.loop.run` returns them.
Train = Callable[[Any, Path, training.Report], dict[str, float]]
# How a trial ended, or what the first host decided about it.
RUNNING, COMPLETE, PRUNED, FAILED = 'running', 'complete', 'pruned', 'failed'
STOPPED, LOST = 'stopped', 'lost'
_MAX_FAILURES = 3
# Seconds between two attempts at a folder that another process uses.
_POLL = 2.0
# Characters of an error that are stored; compilers' may be of any length.
_MAX_ERROR = 2000
_HINT = 'With --retry_failed, the same command runs those that failed again'


class TrialsFailedError(RunError):
  """Trial after trial failed, or none of a sweep's is complete."""


class MissingMetricError(ConfigError):
  """No trial of the sweep will have the metric."""


def work(
  sweep: sweep_lib.Sweep,
  study: study_lib.Study | None,
  workdir: Path | str,
  train: Train,
  *,
  poll: float = 2.0,
) -> bool:
  """Runs trials until all have ended, or a signal.

  Args:
    sweep: what is searched.
    study: on the first host; None on others, which follow it.
    workdir: the sweep's folder; trials are in WORKDIR/trials/NUMBER.
    train: runs one.
    poll: seconds between two reads of the study, while other workers run the
      last trials.

  Returns:
    Whether the sweep is done; False after Ctrl-C.

  Raises:
    MissingMetricError: if no run has the metric; the trial is left as it is.
    SystemExit: 143 after a SIGTERM, as `mmjax.train.loop.run` does.
    TrialsFailedError: if three fail in a row, or none is complete in the end.
    storage.UnreachableError: if it is for long; the trial is left as it is.
    FullError: if a disk is full; the trial is left as it is.
  """
  failures = 0
  while True:
    trial, job = _next(study, workdir)
    job = hosts.from_first(job)
    if job['do'] == 'end':
      if study is not None:
        # A worker may have died between its trial's end and this.
        storage.with_retry(best.write, study.optuna, workdir)
      if job['problem']:
        raise TrialsFailedError(job['problem'])
      return True
    if job['do'] == 'wait':
      if jax.process_count() > 1 and stopping.preempted():
        raise SystemExit(128 + signal.SIGTERM)
      time.sleep(poll)
      continue
    folder = _folder(workdir, job['number'])
    with trial.lease if trial is not None else contextlib.nullcontext():
      outcome = _Trial(sweep, trial, job['values'], folder).run(train)
      outcome = hosts.from_first(outcome)
      if trial is not None and outcome not in (LOST, STOPPED):
        storage.with_retry(best.write, study.optuna, workdir)
    if outcome == STOPPED:
      return False
    failures = failures + 1 if outcome == FAILED else 0
    _check_failures(failures, folder)
    # What was compiled for this trial's shapes and constants is not needed.
    jax.clear_caches()
    gc.collect()


def _check_failures(failures: int, folder: Path) -> None:
  if failures == _MAX_FAILURES:
    raise TrialsFailedError(
      f'{failures} trials failed in a row; the last error is in '
      f'{folder}/log.txt. {_HINT}'
    )


def _next(
  study: study_lib.Study | None, workdir: Path | str
) -> tuple[study_lib.RunningTrial | None, dict[str, Any]]:
  """The first host's next trial, and what all hosts do."""
  if study is None:
    return None, {}
  trial = study.take(lambda number: saved_steps(_folder(workdir, number)))
  if trial is not None:
    values = trial.values
    return trial, {'do': 'run', 'number': trial.number, 'values': values}
  if study.done():
    return None, {'do': 'end', 'problem': problem(study, workdir)}
  return None, {'do': 'wait'}


class _Trial:
  """One trial on this host: its repeats, its reports, its end.

  Only the first host has a `RunningTrial`, and decides for all.
  """

  def __init__(
    self,
    sweep: sweep_lib.Sweep,
    trial: study_lib.RunningTrial | None,
    values: Mapping[str, Any],
    folder: Path,
  ):
    self._sweep, self._trial = sweep, trial
    # Between hosts, tuples travel as lists.
    self._values = settings.tuples(dict(values))
    self._folder = folder
    self._decision = RUNNING

  def run(self, train: Train) -> str:
    """COMPLETE, PRUNED, FAILED, STOPPED or LOST, after storing it."""
    with self._log():
      try:
        return self._outcome(train)
      except lease.LostError as error:
        print(error)
        return LOST

  def _outcome(self, train: Train) -> str:
    try:
      return self._repeats(train)
    except (
      lease.LostError,
      storage.UnreachableError,
      disk.FullError,
      MissingMetricError,
    ):
      raise
    except ConfigError as error:
      # Two values that are refused together, or a metric that is not finite.
      return self._failed(str(error))
    except training.NonFiniteError as error:
      print(f'this trial diverged: {error}')
      return self._pruned(reason=str(error))
    except Exception as error:
      message = f'{type(error).__name__}: {error}'[:_MAX_ERROR]
      # Of several hosts, one may have died; then another worker resumes it.
      if jax.process_count() > 1:
        if self._trial is not None:
          self._trial.died(message)
        raise
      traceback.print_exc(file=sys.stdout)
      return self._failed(message)

  def _repeats(self, train: Train) -> str:
    runs: list[dict[str, float]] = []
    for repeat in range(self._sweep.repeats):
      config = self._sweep.config(self._values, repeat)
      results = self._train(train, config, repeat)
      if not results:
        return STOPPED
      if self._decision == PRUNED:
        return self._pruned()
      runs.append(results)
    return self._complete(runs)

  def _train(self, train: Train, config: Any, repeat: int) -> dict[str, float]:
    """Runs one repeat, once no other process uses its folder.

    The trial's former worker may have been taken for dead while it was not.
    """
    waits = False
    while True:
      self._follow(lambda trial: self._decide(trial, 0, ()))
      try:
        return train(config, self._run_folder(repeat), self._report(repeat))
      except owner.OccupiedError as error:
        if not waits:
          print(f'{error}\nwaiting for it')
        waits = True
      time.sleep(_POLL)

  def _follow(self, decide: Callable[[study_lib.RunningTrial], str]) -> None:
    """Has the first host decide about its trial, and all hosts know it.

    Raises:
      lease.LostError: if another worker has the trial. Nothing is saved, since
        that worker also has its folder.
    """
    decision, error = RUNNING, 'another worker runs this trial now'
    if self._trial is not None:
      try:
        decision = decide(self._trial)
      except lease.LostError as lost:
        decision, error = LOST, str(lost)
    self._decision = hosts.from_first(decision)
    if self._decision == LOST:
      raise lease.LostError(error)

  def _report(self, repeat: int) -> training.Report:
    """What the loop calls with each evaluation; True ends the run.

    Only the first of several repeats is reported and pruned: the others measure
    the noise of a point that was not pruned.
    """

    def report(step: int, metrics: Mapping[str, float]) -> bool:
      values = [
        measure(name, metrics)
        for name in self._sweep.metrics
        if name not in sweep_lib.COSTS
      ]
      if repeat or len(self._sweep.metrics) > 1:
        values = []
      self._follow(lambda trial: self._decide(trial, step, values))
      return self._decision == PRUNED

    return report

  def _decide(
    self, trial: study_lib.RunningTrial, step: int, values: Sequence[float]
  ) -> str:
    """Whether the first host's trial is RUNNING or PRUNED after a step."""
    if not values:
      trial.check()
    elif trial.report(step, values[0], prunes=self._sweep.prunes()):
      return PRUNED
    return RUNNING

  def _complete(self, runs: list[dict[str, float]]) -> str:
    names = self._sweep.metrics
    values = [[measure(name, run) for run in runs] for name in names]
    means = [math.fsum(v) / len(v) for v in values]
    if not all(map(math.isfinite, means)):
      raise ConfigError(f'{names} = {means}, which must be finite')
    if self._trial is not None:
      self._trial.note(**self._costs(), runs=values)
      if len(means) == 1:
        self._trial.report(int(runs[0]['step']), values[0][0], prunes=False)
      self._trial.complete(means)
    return COMPLETE

  def _pruned(self, **facts: str) -> str:
    """Ends the trial as one that was not worth more steps.

    Also one that diverged: samplers learn from pruned trials, and nothing from
    failed ones.
    """
    if self._trial is not None:
      self._trial.note(**facts, **self._costs())
      self._trial.prune()
    return PRUNED

  def _failed(self, reason: str) -> str:
    print(f'this trial failed: {reason}')
    if self._trial is not None:
      self._trial.fail(reason)
    return FAILED

  def _run_folder(self, repeat: int) -> Path:
    """An ordinary run's; with repeats, each has its own."""
    if self._sweep.repeats == 1:
      return self._folder
    return self._folder / f'repeat_{repeat}'

  def _costs(self) -> dict[str, float]:
    """Steps and seconds of training that the trial took, of all its runs."""
    costs = {'steps': 0, 'seconds': 0.0}
    for repeat in range(self._sweep.repeats):
      path = self._run_folder(repeat) / 'results.json'
      if path.exists():
        results = settings.read_json(path)
        costs['steps'] += results.get('step', 0)
        costs['seconds'] += results.get('train_seconds', 0.0)
    return costs

  @contextlib.contextmanager
  def _log(self) -> Iterator[None]:
    """Writes what the run prints into its folder."""
    if self._trial is None:
      yield
      return
    self._folder.mkdir(parents=True, exist_ok=True)
    file = (self._folder / 'log.txt').open('a', buffering=1)
    try:
      with contextlib.redirect_stdout(file):
        yield
    finally:
      with contextlib.suppress(OSError):  # Of a full disk.
        file.close()


def _folder(workdir: Path | str, number: int) -> Path:
  """A trial's."""
  return Path(workdir) / 'trials' / str(number)


def saved_steps(folder: Path) -> int:
  """Steps in the newest checkpoints of a trial's runs, together."""
  runs = (folder, *folder.glob('repeat_*'))
  return sum(max(checkpoints.steps_in(run), default=0) for run in runs)


def problem(study: study_lib.Study, workdir: Path | str) -> str:
  """Why a sweep that has ended has no result; '' if it has one."""
  states = collections.Counter(
    trial.state.name.lower() for trial in storage.with_retry(study.trials)
  )
  if 'complete' in states:
    return ''
  counts = ', '.join(f'{count} {state}' for state, count in states.items())
  return (
    f'no trial is complete: {counts}; the errors are in {workdir}/trials/'
    f'NUMBER/log.txt. {_HINT}'
  )


def measure(name: str, results: Mapping[str, float]) -> float:
  """A metric of a run.

  Raises:
    MissingMetricError: if the evaluation has no such number.
  """
  if name == 'step_time':
    return results['train_seconds'] / results['step']
  if name in results:
    return float(results[name])
  known = sorted(key for key in results if key.startswith('val/'))
  raise MissingMetricError(
    f'metric={name!r} is not a metric of the evaluation; there are '
    f'{", ".join(known)}'
  )
