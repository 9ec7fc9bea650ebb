"""The status of a sweep: a line for each trial that ends, and a summary."""

import collections
import contextlib
import statistics
import sys

import optuna

from mmjax.sweeps import best, storage
from mmjax.train import progress

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial


class StatusPrinter:
  """Prints the trials of a study that ended since it was made."""

  def __init__(self, study: optuna.Study):
    # The stream as it is now: while a trial runs, it is the trial's log.
    self._study, self._stream = study, sys.stdout
    self._printed: set[int] = set()
    self._new_lines()

  def update(self, end: bool = False) -> None:
    """Prints a line for each new one; at the end and on a terminal a summary.

    A storage that is out of reach is read by the next call.
    """
    with contextlib.suppress(*storage.ERRORS):
      lines = self._new_lines()
      if end or (lines and self._stream.isatty()):
        lines.append(summary(self._study))
      print(*lines, sep='\n', end='\n' * bool(lines), file=self._stream)
      self._stream.flush()

  def _new_lines(self) -> list[str]:
    new = [
      trial
      for trial in self._study.get_trials(deepcopy=False)
      if trial.state.is_finished() and trial.number not in self._printed
    ]
    self._printed.update(trial.number for trial in new)
    return [line(self._study, trial) for trial in new]


def summary(study: optuna.Study) -> str:
  """One line: number of trials in each state, the best, and the time left."""
  trials, waiting = begun(study)
  names = {State.RUNNING: 'begun', State.FAIL: 'failed'}
  states = collections.Counter(
    names.get(trial.state, trial.state.name.lower())
    for trial in sorted(trials, key=lambda trial: trial.state)
  )
  states['waiting'] = waiting
  counts = ', '.join(f'{n} {state}' for state, n in states.items() if n)
  parts = [f'{study.study_name}: {len(trials) + waiting} trials', counts]
  chosen = best.find(study)
  if chosen is not None:
    parts.append(f'best {chosen.value:.4g} in trial {chosen.number}')
  seconds = [
    trial.duration.total_seconds()
    for trial in trials
    if trial.state in (State.COMPLETE, State.PRUNED)
  ]
  running = states['begun']
  if seconds and running + waiting:
    # Those that run are halfway on average.
    left = statistics.fmean(seconds) * (waiting + running / 2)
    left /= max(running, 1)
    parts.append(f'about {progress.duration(left)} left')
  return '; '.join(parts)


def line(study: optuna.Study, trial: Frozen) -> str:
  """One trial: its state, metric, cost, parameters and failure."""
  facts, out = trial.user_attrs, f'trial {trial.number} '
  out += trial.state.name.lower()
  if trial.value is not None:
    out += f'  {study.user_attrs["sweep"]["metric"]} {trial.value:.4g}'
  if 'steps' in facts:
    seconds = progress.duration(facts['seconds'])
    out += f'  {facts["steps"]:,} steps in {seconds}'
  params = [
    f'{path}={v:.4g}' if isinstance(v, float) else f'{path}={v}'
    for path, v in trial.params.items()
  ]
  reason = facts.get('reason', '').splitlines()
  return f'{out}  ({", ".join(params)})' + (f': {reason[0]}' if reason else '')


def begun(study: optuna.Study) -> tuple[list[Frozen], int]:
  """The trials that have begun, and the number of those that have not."""
  trials = study.get_trials(deepcopy=False)
  out = [trial for trial in trials if trial.state != State.WAITING]
  return out, max(0, study.user_attrs['sweep']['trials'] - len(out))
