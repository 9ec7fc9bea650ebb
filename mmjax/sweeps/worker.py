"""What a worker does: take a trial, run it, store its result, repeat."""

import contextlib
import dataclasses
import gc
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from mmjax.config import settings
from mmjax.errors import ConfigError, RunError
from mmjax.parallel import hosts
from mmjax.runs import disk, owner
from mmjax.sweeps import best, storage
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.training import loop, stopping

# (config, workdir, should_stop) -> results, as `mmjax.training.runner.run`
# returns them.
Train = Callable[[Any, Path, loop.ShouldStop], dict[str, float]]
State = study_lib.State
_MAX_FAILURES = 3
# Characters of an error that are stored; compilers' may be of any length.
_MAX_ERROR = 2000


class TrialsFailedError(RunError):
  """Trial after trial failed, or none of a sweep's is complete."""


class MissingMetricError(ConfigError):
  """No trial of the sweep will have the metric."""


def work(
  sweep: sweep_lib.Sweep,
  study: study_lib.Study | None,
  workdir: Path | str,
  train: Train,
  show: Callable[[], None] | None = None,
  poll: float = 2.0,
) -> bool:
  """Runs trials until all have ended, or a signal.

  Args:
    sweep: what is searched.
    study: on the first host; None on others, which follow it.
    workdir: the sweep's folder; trials are in WORKDIR/trials/NUMBER.
    train: runs one.
    show: prints the study's status; called between trials on the first host,
      and while it waits for other workers.
    poll: seconds between two reads of the study, while it waits.

  Returns:
    Whether the sweep is done; False after Ctrl-C.

  Raises:
    MissingMetricError: if no run has the metric; the trial is left as it is.
    SystemExit: 143 after a SIGTERM, as `mmjax.training.runner.run` does.
    TrialsFailedError: if three fail in a row.
    UnreachableError, FullError: of the storage, a disk; the trial is left.
  """
  failures = 0
  while True:
    trial, job = None, {}
    if study is not None:
      trial, job = _next(study, workdir)
      if show is not None:
        show()
    job = hosts.from_first(job)
    outcome = job['do']
    if outcome == 'run':
      folder = study_lib.trial_folder(workdir, job['number'])
      with trial.holding() if trial else contextlib.nullcontext():
        # Between hosts, tuples travel as lists.
        values = settings.tuples(job['values'])
        outcome = _Trial(sweep, trial, values, folder).run(train)
      # What was compiled for this trial's shapes and constants is not needed.
      jax.clear_caches()
      gc.collect()
    if outcome in ('end', 'stopped'):
      return outcome == 'end'
    if outcome in ('wait', 'occupied'):
      if jax.process_count() > 1 and stopping.preempted():
        raise SystemExit(128 + signal.SIGTERM)
      time.sleep(poll)
      continue
    failures = failures + 1 if outcome == 'failed' else 0
    if failures == _MAX_FAILURES:
      raise TrialsFailedError(
        f'{failures} trials failed in a row; the last error is in '
        f'{folder}/log.txt; the same command runs the trials that are left'
      )


def _next(
  study: study_lib.Study, workdir: Path | str
) -> tuple[study_lib.RunningTrial | None, dict[str, Any]]:
  """The first host's next trial, and what all hosts do."""
  # Here, since a worker may die between its trial's end and this.
  storage.with_retry(best.write, study.optuna, workdir)
  trial = study.take()
  if trial is not None:
    return trial, {'do': 'run', 'number': trial.number, 'values': trial.values}
  return None, {'do': 'end' if study.done() else 'wait'}


@dataclasses.dataclass
class _Trial:
  """One trial on this host: its reports and its end.

  Only the first host has a `RunningTrial`, and decides for all.
  """

  sweep: sweep_lib.Sweep
  trial: study_lib.RunningTrial | None
  values: Mapping[str, Any]
  folder: Path
  results: Mapping[str, float] = dataclasses.field(default_factory=dict)
  pruned: bool = False

  def run(self, train: Train) -> str:
    """Runs the trial and stores its end.

    Returns:
      'ended', 'failed', 'stopped' by a signal, or 'occupied' by another worker.
    """
    with self._log() if self.trial else contextlib.nullcontext():
      try:
        return self._run(train)
      except owner.OccupiedError as error:
        print(error)
        return 'occupied'
      except (storage.UnreachableError, disk.FullError, MissingMetricError):
        raise
      except loop.NonFiniteError as error:
        # Samplers learn from pruned trials, and nothing from failed ones.
        print(f'this trial diverged: {error}')
        self._end(State.PRUNED, reason=str(error))
        return 'ended'
      except ConfigError as error:
        # Two values that are refused together, or a metric that is not finite.
        return self._fail(str(error))
      except Exception as error:
        traceback.print_exc(file=sys.stdout)
        # Of several hosts, one may have died; then another worker resumes it.
        if jax.process_count() > 1:
          raise
        return self._fail(f'{type(error).__name__}: {error}'[:_MAX_ERROR])

  def _run(self, train: Train) -> str:
    config = sweep_lib.vary(self.sweep.base, self.values)
    self.results = train(config, self.folder, self._report)
    if not self.results:
      return 'stopped'
    if self.pruned:
      self._end(State.PRUNED)
      return 'ended'
    value = self._measure(self.results)
    if not math.isfinite(value):
      raise ConfigError(f'{self.sweep.metric}={value}, which must be finite')
    if self.trial is not None:
      self.trial.report(int(self.results['step']), value)
    self._end(State.COMPLETE, value)
    return 'ended'

  def _report(self, step: int, results: Mapping[str, float]) -> bool:
    """What the loop calls with each evaluation; True ends the run."""
    value = self._measure(results)
    if self.trial is not None:
      self.pruned = self.trial.report(step, value)
    self.pruned = hosts.from_first(self.pruned)
    return self.pruned

  def _measure(self, results: Mapping[str, float]) -> float:
    """The metric of a run; MissingMetricError without it."""
    name = self.sweep.metric
    if name in results:
      return float(results[name])
    known = sorted(key for key in results if key.startswith('val/'))
    raise MissingMetricError(
      f'metric={name!r} is not a metric of the evaluation; there are '
      f'{", ".join(known)}; correct it, and start the sweep again'
    )

  def _end(self, state: State, value: Any = None, **facts: Any) -> None:
    """Stores the end, with steps and seconds of training."""
    if self.trial is not None:
      steps = self.results.get('step', 0)
      seconds = self.results.get('train_seconds', 0.0)
      self.trial.end(state, value, steps=steps, seconds=seconds, **facts)

  def _fail(self, reason: str) -> str:
    print(f'this trial failed: {reason}')
    self._end(State.FAIL, reason=reason)
    return 'failed'

  @contextlib.contextmanager
  def _log(self) -> Iterator[None]:
    """Writes what the run prints into its folder."""
    self.folder.mkdir(parents=True, exist_ok=True)
    file = (self.folder / 'log.txt').open('a', buffering=1)
    try:
      with contextlib.redirect_stdout(file):
        yield
    finally:
      with contextlib.suppress(OSError):  # Of a full disk.
        file.close()


def check_complete(study: study_lib.Study, workdir: Path | str) -> None:
  """Refuses a sweep that has ended without a complete trial.

  Raises:
    TrialsFailedError: if there is none.
  """
  if not storage.with_retry(best.find, study.optuna):
    raise TrialsFailedError(
      f'no trial is complete; the errors are in {workdir}/trials/NUMBER/'
      'log.txt; correct their cause, and choose another --workdir'
    )
