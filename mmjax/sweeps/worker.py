"""What a worker does: take a trial, run it, tell what came out; again."""

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

from mmjax.parallel import hosts
from mmjax.sweeps import best, claims, storage
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import checkpoints, disk, loop, owner, settings, stopping
from mmjax.train.settings import UserError

# (config, workdir, report) -> results, as `mmjax.train.loop.run` gives them.
Train = Callable[[Any, Path, loop.Report], dict[str, float]]
GO, PRUNE, LOST = 'go', 'prune', 'lost'
_FAILURES = 3
# Seconds between two attempts at a folder that another process is in.
_POLL = 2.0
# Of what is stored of an error: compilers' may be of any length.
_LONGEST = 2000
_AGAIN = 'With --retry_failed, the same command tries again those that failed'


class TrialsFail(RuntimeError):
  """Trial after trial fails, or there is none left that didn't."""


class _Ends(Exception):
  """Ends a trial that has no metric."""


def work(
  sweep: sweep_lib.Sweep,
  study: study_lib.Study | None,
  workdir: Path | str,
  train: Train,
  *,
  poll: float = 2.0,
) -> bool:
  """Runs trials until there are none left, or a signal.

  Args:
    sweep: what is searched.
    study: on the first host; None on others, which follow it.
    workdir: the sweep's folder; trials lie in WORKDIR/trials/NUMBER.
    train: runs one.
    poll: seconds between looks, while other workers run what is left.

  Returns:
    Whether the sweep is done; False after Ctrl-C.

  Raises:
    UserError: if the metric isn't there; the trial is left as it is.
    SystemExit: 143 after a SIGTERM, as `mmjax.train.loop.run` does.
    TrialsFail: if several do one after another, or none is complete in the end.
    storage.Unreachable: if it is for long; the trial is left as it is.
    FullError: if a disk is full; the trial is left as it is.
  """
  failures = 0
  while True:
    taken, mine = _next(study, workdir)
    job = hosts.from_first(mine)
    if job['do'] == 'end':
      if study is not None:
        # A worker may have died between its trial's end and this.
        storage.patiently(best.write, study.whole, workdir)
      if job['lacks']:
        raise TrialsFail(job['lacks'])
      return True
    if job['do'] == 'wait':
      if jax.process_count() > 1 and stopping.preempted():
        raise SystemExit(128 + signal.SIGTERM)
      time.sleep(poll)
      continue
    folder = _folder(workdir, job['number'])
    with taken.claim if taken is not None else contextlib.nullcontext():
      outcome = _Trial(sweep, taken, job['values'], folder).run(train)
      outcome = hosts.from_first(outcome)
      if taken is not None and outcome not in (LOST, 'stopped'):
        storage.patiently(best.write, study.whole, workdir)
    if outcome == 'stopped':
      return False
    failures = failures + 1 if outcome == 'failed' else 0
    if failures == _FAILURES:
      raise TrialsFail(
        f'{failures} trials failed one after another; the last one says why in '
        f'{folder}/log.txt. {_AGAIN}'
      )
    # What was compiled for this trial's shapes and constants is not needed.
    jax.clear_caches()
    gc.collect()


def _next(
  study: study_lib.Study | None, workdir: Path | str
) -> tuple[study_lib.Taken | None, dict[str, Any]]:
  """What the first host takes, and what it has all of them do."""
  if study is None:
    return None, {}
  taken = study.take(lambda number: saved(_folder(workdir, number)))
  if taken is not None:
    values = taken.values
    return taken, {'do': 'run', 'number': taken.number, 'values': values}
  if study.done():
    return None, {'do': 'end', 'lacks': lacks(study, workdir)}
  return None, {'do': 'wait'}


class _Trial:
  """One trial on this host: its repeats, its reports, its end."""

  def __init__(
    self,
    sweep: sweep_lib.Sweep,
    taken: study_lib.Taken | None,
    values: Mapping[str, Any],
    folder: Path,
  ):
    self._sweep, self._taken = sweep, taken
    # Between hosts, tuples travel as lists.
    self._values = settings.tuples(dict(values))
    self._folder = folder
    self._decision = GO

  def run(self, train: Train) -> str:
    """'done', 'pruned', 'failed', 'stopped' or LOST; tells the study so."""
    with self._logged():
      try:
        return self._outcome(train)
      except claims.Lost as error:
        print(error)
        return LOST

  def _outcome(self, train: Train) -> str:
    taken = self._taken
    try:
      if hosts.from_first(taken is not None and taken.pruned):
        if taken is not None:
          taken.note(**self._costs())
          taken.prune()
        return 'pruned'
      return self._repeats(train)
    except (claims.Lost, storage.Unreachable, disk.FullError):
      raise
    except _Ends as error:
      return self._failed(str(error))
    except MissingMetric as error:
      print(error)
      raise
    except UserError as error:
      # What the config refuses with these values, as far as it could not be
      # seen before.
      return self._failed(str(error))
    except loop.NonFiniteError as error:
      return self._diverged(str(error))
    except Exception as error:
      said = f'{type(error).__name__}: {error}'[:_LONGEST]
      # Of several hosts, one may have died, and another worker goes on.
      if jax.process_count() > 1:
        if taken is not None:
          taken.erred(said)
        raise
      traceback.print_exc(file=sys.stdout)
      return self._failed(said)

  def _repeats(self, train: Train) -> str:
    sweep, taken = self._sweep, self._taken
    runs: list[dict[str, float]] = []
    for repeat in range(sweep.repeats):
      config = sweep.config(self._values, repeat)
      results = self._train(train, config, repeat)
      if not results:
        return 'stopped'
      if self._decision == PRUNE:
        if taken is not None:
          taken.note(**self._costs())
          taken.prune()
        return 'pruned'
      runs.append(results)
    self._finish(runs)
    return 'done'

  def _train(self, train: Train, config: Any, repeat: int) -> dict[str, float]:
    """Runs one repeat, once no other process is in its folder.

    The worker that had the trial before may have been taken for dead while it
    was not.
    """
    waits = False
    while True:
      try:
        return train(config, self.run_folder(repeat), self._report(repeat))
      except owner.OccupiedError as error:
        if not waits:
          print(f'{error}\nwaiting for it')
        waits = True
      self._go_on(GO if self._taken is None else self._decide(0, (), False))
      time.sleep(_POLL)

  def _go_on(self, decision: str) -> None:
    """Follows what the first host decided.

    Raises:
      claims.Lost: if the trial is another worker's. Nothing is saved: so is its
        folder.
    """
    self._decision = hosts.from_first(decision)
    if self._decision == LOST:
      raise claims.Lost('this trial is left to the worker that has it now')

  def _finish(self, runs: list[dict[str, float]]) -> None:
    sweep, taken = self._sweep, self._taken
    values = [[measure(name, run) for run in runs] for name in sweep.metrics]
    means = [math.fsum(v) / len(v) for v in values]
    if not all(map(math.isfinite, means)):
      found = zip(sweep.metrics, means, strict=True)
      raise _Ends(', '.join(f'{name}={value}' for name, value in found))
    if taken is None:
      return
    taken.note(**self._costs(), runs=values)
    if len(means) == 1:
      taken.report(int(runs[0]['step']), values[0][0], prunes=False)
    taken.finish(means)

  def run_folder(self, repeat: int) -> Path:
    """An ordinary run's; with repeats, each has its own."""
    if self._sweep.repeats == 1:
      return self._folder
    return self._folder / f'repeat_{repeat}'

  def _report(self, repeat: int) -> loop.Report:
    """What the loop calls: tells the study, and asks it on behalf of all.

    Only the first of several repeats is pruned: the others are there to
    measure the noise of a point that was found worth it.
    """
    prunes = self._sweep.prunes() and repeat == 0

    def report(step: int, metrics: Mapping[str, float]) -> bool:
      values = [
        measure(name, metrics)
        for name in self._sweep.metrics
        if name not in sweep_lib.COSTS
      ]
      decision = GO
      if self._taken is not None:
        # Optuna takes reports of a single metric.
        single = values if len(self._sweep.metrics) == 1 else ()
        decision = self._decide(step, () if repeat else single, prunes)
      self._go_on(decision)
      return self._decision == PRUNE

    return report

  def _decide(self, step: int, single: Sequence[float], prunes: bool) -> str:
    try:
      if not single:
        self._taken.check()
        return GO
      pruned = self._taken.report(step, single[0], prunes=prunes)
    except claims.Lost as error:
      print(error)
      return LOST
    return PRUNE if pruned else GO

  def _failed(self, reason: str) -> str:
    print(f'this trial failed: {reason}')
    if self._taken is not None:
      self._taken.fail(reason)
    return 'failed'

  def _diverged(self, reason: str) -> str:
    """Ends the trial as one that was not worth more steps.

    Samplers learn from pruned trials where not to go, and nothing from failed
    ones.
    """
    print(f'this trial diverged: {reason}')
    if self._taken is not None:
      self._taken.note(reason=reason, **self._costs())
      self._taken.prune()
    return 'pruned'

  def _costs(self) -> dict[str, float]:
    """Steps and seconds of training that the trial took, of all its runs."""
    costs = {'steps': 0, 'seconds': 0.0}
    for repeat in range(self._sweep.repeats):
      path = self.run_folder(repeat) / 'results.json'
      if path.exists():
        results = settings.read_json(path)
        costs['steps'] += results.get('step', 0)
        costs['seconds'] += results.get('train_seconds', 0.0)
    return costs

  @contextlib.contextmanager
  def _logged(self) -> Iterator[None]:
    """What the run prints goes into its folder."""
    if self._taken is None:
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


def saved(folder: Path) -> int:
  """Steps in the newest checkpoints of a trial's runs, together."""
  total = 0
  for run in (folder, *folder.glob('repeat_*')):
    total += max(checkpoints.steps_in(run), default=0)
  return total


def lacks(study: study_lib.Study, workdir: Path | str) -> str:
  """What to tell of a sweep that has ended without a result; else ''."""
  states = collections.Counter(
    trial.state.name.lower() for trial in storage.patiently(study.trials)
  )
  if 'complete' in states:
    return ''
  counts = ', '.join(f'{count} {state}' for state, count in states.items())
  return (
    f'no trial is complete: {counts}; each says why in {workdir}/trials/NUMBER/'
    f'log.txt. {_AGAIN}'
  )


def measure(name: str, results: Mapping[str, float]) -> float:
  """A metric of a run.

  Raises:
    MissingMetric: if the evaluation has no such number.
  """
  if name == 'step_time':
    return results['train_seconds'] / results['step']
  if name in results:
    return float(results[name])
  there = sorted(key for key in results if key.startswith('val/'))
  raise MissingMetric(
    f'metric={name!r} is no metric of the evaluation; there are '
    f'{", ".join(there)}'
  )


class MissingMetric(UserError):
  """No trial of the sweep will have it."""
