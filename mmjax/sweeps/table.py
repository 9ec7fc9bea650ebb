"""How a sweep stands: a live table on a terminal, else a line a trial."""

import collections
import contextlib
import math
import statistics
import sys
import threading
from collections.abc import Callable, Sequence, Set
from typing import Any, TextIO

import optuna
from rich import box, console, live, table

from mmjax.sweeps import best, storage
from mmjax.train import progress

State = optuna.trial.TrialState
_ROWS = 12
_DONE = (State.COMPLETE, State.PRUNED, State.FAIL)


class Table:
  """Shows a study until it is left; a context, with a thread of its own.

  Args:
    study: to look at; any process may have it.
    living: numbers of the trials that a worker runs, of `Study.living`; others
      that have begun are shown as stopped.
    stream: where to; by default the process's standard output as it is now.
    every: seconds between looks.
  """

  def __init__(
    self,
    study: optuna.Study,
    *,
    living: Callable[[], Set[int]] | None = None,
    stream: TextIO | None = None,
    every: float = 2.0,
  ):
    self._study, self._living, self._every = study, living, every
    self._console = console.Console(
      file=sys.stdout if stream is None else stream, highlight=False
    )
    self._live = live.Live(
      console=self._console, auto_refresh=False, transient=False
    )
    self._said = {t.number for t in _trials(study) if t.state in _DONE}
    self._begun = len(self._said)
    self._end = threading.Event()
    self._thread = threading.Thread(
      target=self._watch, daemon=True, name='table'
    )

  def __enter__(self) -> 'Table':
    if self._console.is_terminal:
      self._live.start()
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._end.set()
    self._thread.join()
    with contextlib.suppress(*storage.ERRORS):
      self._look()
      if not self._console.is_terminal:
        self._console.print(self._rendered())
    if self._console.is_terminal:
      self._live.stop()

  def _watch(self) -> None:
    while not self._end.wait(self._every):
      # A storage out of reach for a while is looked at again.
      with contextlib.suppress(*storage.ERRORS):
        self._look()

  def _look(self) -> None:
    if self._console.is_terminal:
      self._live.update(self._rendered(), refresh=True)
      return
    for trial in _trials(self._study):
      if trial.state in _DONE and trial.number not in self._said:
        self._said.add(trial.number)
        self._console.print(line(self._study, trial), soft_wrap=True)

  def _rendered(self) -> table.Table:
    return rendered(self._study, self._living() if self._living else None)


def rendered(
  study: optuna.Study, living: Set[int] | None = None
) -> table.Table:
  """The running trials, the best ones, and how far all are.

  Args:
    study: to look at.
    living: numbers of the trials that a worker runs, where that is known.
  """
  trials = _trials(study)
  metrics = study.user_attrs['sweep']['metric']
  fields = list(study.user_attrs['sweep']['space'])
  out = table.Table(
    box=box.SIMPLE_HEAD, title=summary(study, living), title_justify='left'
  )
  out.add_column('trial', justify='right', no_wrap=True)
  out.add_column('state', no_wrap=True)
  for path in fields:
    out.add_column(path.rpartition('.')[2], justify='right')
  for name in metrics:
    out.add_column(name.rpartition('/')[2], justify='right')
  for name in ('step', 'time'):
    out.add_column(name, justify='right', no_wrap=True)
  first = {trial.number for trial in best.trials(study)}
  for trial in _shown(study, trials):
    values = [number(trial.params.get(path, '')) for path in fields]
    style = 'bold' if trial.number in first else None
    state = _state(trial, living) + (' *' if trial.number in first else '')
    out.add_row(
      str(trial.number),
      state,
      *values,
      *_metrics(trial, len(metrics)),
      _step(study, trial),
      progress.duration(trial.user_attrs.get('seconds', 0.0)),
      style=style,
    )
  return out


def summary(study: optuna.Study, living: Set[int] | None = None) -> str:
  """One line: how many trials in which state, the best, and the time left.

  Args:
    study: to look at.
    living: numbers of the trials that a worker runs, where that is known.
  """
  trials = _trials(study)
  states = collections.Counter(
    _state(trial, living)
    for trial in sorted(trials, key=lambda trial: trial.state)
  )
  counts = [f'{count} {state}' for state, count in states.items()]
  parts = [f'{study.study_name}: {len(trials)} trials', ', '.join(counts)]
  found = best.trials(study)
  if len(study.directions) > 1:
    parts.append(f'{len(found)} on the Pareto front')
  elif found:
    parts.append(f'best {found[0].value:.4g} in trial {found[0].number}')
  noise = noise_of(trials)
  if noise is not None:
    parts.append(f'noise of a run {noise:.2g}')
  left = seconds_left(trials)
  if left:
    parts.append(f'about {progress.duration(left)} left')
  return '; '.join(parts)


def line(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> str:
  """One trial that has ended."""
  fields = ', '.join(f'{path}={number(v)}' for path, v in trial.params.items())
  out = f'trial {trial.number} {trial.state.name.lower()}'
  metrics = study.user_attrs['sweep']['metric']
  for name, value in zip(metrics, trial.values or (), strict=False):
    out += f'  {name} {value:.4g}'
  reason = trial.user_attrs.get('reason', '').splitlines()
  return f'{out}  ({fields})' + (f': {reason[0]}' if reason else '')


def _state(trial: optuna.trial.FrozenTrial, living: Set[int] | None) -> str:
  """As people call it; Optuna has none for what was stopped on its way."""
  running = trial.state == State.RUNNING
  if running and living is not None and trial.number not in living:
    return 'stopped'
  return trial.state.name.lower()


def noise_of(trials: Sequence[optuna.trial.FrozenTrial]) -> float | None:
  """Standard deviation between runs of a point, pooled over points.

  Of the first metric; None without repeats.
  """
  runs = [
    trial.user_attrs['runs'][0]
    for trial in trials
    if len(trial.user_attrs.get('runs', [[]])[0]) > 1
  ]
  if not runs:
    return None
  return math.sqrt(statistics.fmean(statistics.variance(r) for r in runs))


def seconds_left(trials: Sequence[optuna.trial.FrozenTrial]) -> float:
  """What is left to do, by how long trials took and how many run at a time."""
  took = [
    (t.datetime_complete - t.datetime_start).total_seconds()
    for t in trials
    if t.state in (State.COMPLETE, State.PRUNED) and t.datetime_start
  ]
  running = sum(t.state == State.RUNNING for t in trials)
  waiting = sum(t.state == State.WAITING for t in trials)
  if not took or not running + waiting:
    return 0.0
  # Those that run are halfway, on average.
  mean = statistics.fmean(took)
  return mean * (waiting + running / 2) / max(running, 1)


def number(value: Any) -> str:
  """A parameter as a table shows it."""
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def _shown(
  study: optuna.Study, trials: Sequence[optuna.trial.FrozenTrial]
) -> list[optuna.trial.FrozenTrial]:
  """All of a few; else those that run, then the best, as many as fit."""
  begun = [t for t in trials if t.state != State.WAITING]
  if len(begun) <= _ROWS:
    return begun
  running = [t for t in begun if t.state == State.RUNNING]
  if len(study.directions) > 1:
    ranked = best.trials(study)
  else:
    up = study.direction == optuna.study.StudyDirection.MAXIMIZE
    complete = [t for t in begun if t.state == State.COMPLETE]
    ranked = sorted(complete, key=lambda t: -t.value if up else t.value)
  shown = running + ranked[: max(3, _ROWS - len(running))]
  return sorted(shown, key=lambda trial: trial.number)


def _metrics(trial: optuna.trial.FrozenTrial, count: int) -> list[str]:
  if trial.values is None:
    reported = trial.intermediate_values
    last = [f'{reported[trial.last_step]:.4g}'] if reported else ['']
    return last + [''] * (count - 1)
  runs = trial.user_attrs.get('runs', [])
  out = []
  for i, value in enumerate(trial.values):
    spread = runs[i] if i < len(runs) else []
    noise = f' ±{statistics.stdev(spread):.2g}' if len(spread) > 1 else ''
    out.append(f'{value:.4g}{noise}')
  return out


def _step(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> str:
  steps = trial.user_attrs.get('steps')
  if steps is None:
    steps = trial.last_step or 0
  sweep = study.user_attrs['sweep']
  return f'{steps}/{sweep["config"]["train"]["steps"] * sweep["repeats"]}'


def _trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
  return study.get_trials(deepcopy=False)
