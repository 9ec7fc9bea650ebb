"""The status of a sweep: a line for each trial that ends, and a summary."""

import collections
import contextlib
import statistics
import sys

import optuna

from mmjax.sweeps import best, storage
from mmjax.training import progress

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial


class StatusPrinter:
  """Prints the trials of a study that end, and a summary after them."""

  def __init__(self, study: optuna.Study):
    # The stream as it is now: while a trial runs, it is the trial's log.
    self._study, self._stream = study, sys.stdout
    self._ended: set[int] | None = None  # Numbers of those of the last call.

  def update(self) -> None:
    """Prints a line for each trial that ended since the last call.

    A summary follows, if there is one, and in the first call. A storage that is
    out of reach is read by the next call.
    """
    with contextlib.suppress(*storage.ERRORS):
      trials = self._study.get_trials(deepcopy=False)
      ended = {trial.number for trial in trials if trial.state.is_finished()}
      if ended == self._ended:
        return
      new = sorted(ended - self._ended) if self._ended is not None else []
      lines = [line(self._study, trials[number]) for number in new]
      lines.append(summary(self._study))
      print(*lines, sep='\n', file=self._stream, flush=True)
      self._ended = ended


def summary(study: optuna.Study) -> str:
  """One line: number of trials in each state, the best, and the time left."""
  trials = begun(study)
  waiting = max(0, study.user_attrs['sweep']['trials'] - len(trials))
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


def begun(study: optuna.Study) -> list[Frozen]:
  """The trials that have begun, by number."""
  trials = study.get_trials(deepcopy=False)
  return [trial for trial in trials if trial.state != State.WAITING]
