"""Simulates how many steps of a sweep pruning saves.

Replays the learning curves of a sweep that was run with pruner='none', many
times and without training: workers take trials in turn, each trial takes a
random time, and Optuna's pruner decides. Prints how many steps each pruner
saves, and how often the best trial is not pruned.

  python benchmarks/pruning.py --sweep=sweeps/lr_whole --workers=2
"""

import heapq

import numpy as np
import optuna
from absl import app, flags

from mmjax.sweeps import storage

_SWEEP = flags.DEFINE_string(
  'sweep', None, 'folder of the sweep', required=True
)
_WORKERS = flags.DEFINE_integer(
  'workers', 2, 'number of workers', lower_bound=1
)
_ORDERS = flags.DEFINE_integer(
  'orders', 4000, 'number of simulated orders', lower_bound=1
)
_FACTORS = flags.DEFINE_list(
  'factors', ['2', '4'], 'values of reduction_factor'
)
# Of the logarithm of the time that a trial takes, and of what it reports first.
_SPREAD = flags.DEFINE_float('spread', 0.4, 'standard deviation')

Curve = dict[int, float]


def main(argv) -> None:
  """Prints a line for each reduction factor."""
  del argv
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = storage.load_study('journal', _SWEEP.value)
  trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
  curves = [trial.intermediate_values for trial in trials]
  whole = max(max(curve) for curve in curves)
  if any(max(curve) != whole for curve in curves):
    raise SystemExit(f'{_SWEEP.value} was pruned; run it with pruner="none"')
  better = max if study.direction.name == 'MAXIMIZE' else min
  best = better(range(len(curves)), key=lambda i: curves[i][whole])
  for factor in map(int, _FACTORS.value):
    rng = np.random.default_rng(0)
    ends = [
      _replay(curves, factor, study.direction, rng)
      for _ in range(_ORDERS.value)
    ]
    saved = [1 - sum(end) / (whole * len(end)) for end in ends]
    kept = sum(end[best] == whole for end in ends)
    low, median, high = np.percentile(saved, (1, 50, 99))
    print(
      f'reduction_factor={factor}, {_WORKERS.value} workers: saves {low:.0%} '
      f'to {high:.0%} in 98 of 100 orders, {median:.0%} at the median; trial '
      f'{best}, the best, ends whole in {kept} of {len(ends)}'
    )


def _replay(
  curves: list[Curve],
  factor: int,
  direction: optuna.study.StudyDirection,
  rng: np.random.Generator,
) -> list[int]:
  """Steps that each trial has in one order."""
  first = min(curves[0])
  study = optuna.create_study(
    direction=direction,
    pruner=optuna.pruners.SuccessiveHalvingPruner(first, factor),
  )
  factors = np.exp(_SPREAD.value * rng.normal(size=(2, len(curves))))
  ends = [0] * len(curves)
  waiting = iter(range(len(curves)))
  heap: list[tuple[float, int, int, optuna.Trial]] = []

  def go_on(now: float, number: int, step: int, trial: optuna.Trial) -> None:
    step = min((s for s in curves[number] if s > step), default=0)
    if step:
      heapq.heappush(heap, (now + factors[0, number], number, step, trial))

  def take(now: float) -> None:
    for number in waiting:
      go_on(now, number, 0, study.ask())
      return

  for _ in range(_WORKERS.value):
    take(rng.random())
  while heap:
    now, number, step, trial = heapq.heappop(heap)
    value = curves[number][step]
    trial.report(value * (factors[1, number] if step == first else 1), step)
    ends[number] = step
    if step == max(curves[number]):
      study.tell(trial, value)
    elif trial.should_prune():
      study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
      go_on(now, number, step, trial)
      continue
    take(now)
  return ends


if __name__ == '__main__':
  app.run(main)
