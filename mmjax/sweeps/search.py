"""Optuna's samplers and pruners by name; no search algorithm is ours."""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.errors import ConfigError, check_choice
from mmjax.sweeps import space as space_lib

Space = Mapping[str, space_lib.Dimension]

KINDS = {
  # 'gp' is left out: it would need PyTorch.
  'sampler': {
    'grid': optuna.samplers.GridSampler,
    'random': optuna.samplers.RandomSampler,
    'quasi_random': optuna.samplers.QMCSampler,
    'tpe': optuna.samplers.TPESampler,
    'cmaes': optuna.samplers.CmaEsSampler,
    'nsga2': optuna.samplers.NSGAIISampler,
    'nsga3': optuna.samplers.NSGAIIISampler,
  },
  'pruner': {
    'none': optuna.pruners.NopPruner,
    'hyperband': optuna.pruners.HyperbandPruner,
    'successive_halving': optuna.pruners.SuccessiveHalvingPruner,
    'median': optuna.pruners.MedianPruner,
    'percentile': optuna.pruners.PercentilePruner,
    'threshold': optuna.pruners.ThresholdPruner,
  },
}


def named(what: str, value: Any) -> dict[str, Any]:
  """A name, or a dict of a name and options, as such a dict.

  Args:
    what: 'sampler' or 'pruner'.
    value: as in a sweep file.

  Raises:
    ConfigError: if it is neither, or the name is unknown.
  """
  out = dict(value) if isinstance(value, Mapping) else {'name': value}
  check_choice(out.get('name'), KINDS[what], what)
  return out


def sampler(
  options: Mapping[str, Any], space: Space, *, seed: int, number: int
) -> optuna.samplers.BaseSampler:
  """The sampler of one trial.

  Each trial has a random stream of its own, derived from the sweep's seed and
  the trial's number, so that a trial's parameters do not depend on which worker
  asks for them. The points of a grid or a quasi-random sequence are one stream,
  which Optuna numbers.

  Args:
    options: `name`, and keyword arguments of Optuna's class.
    space: path -> dimension.
    seed: the sweep's.
    number: the trial's.

  Raises:
    ConfigError: for options that Optuna refuses.
  """
  if options['name'] == 'grid':
    grid = {path: list(d.grid()) for path, d in space.items()}
    return _make('sampler', options, search_space=grid, seed=seed)
  if options['name'] == 'quasi_random':
    options = {'scramble': True, **options}
    return _make('sampler', options, seed=seed)
  own = np.random.SeedSequence([seed, number]).generate_state(1)[0]
  return _make('sampler', options, seed=int(own))


def pruner(
  options: Mapping[str, Any], *, steps: int, every: int
) -> optuna.pruners.BasePruner:
  """The pruner of a study whose trials report at steps of training.

  Args:
    options: `name`, and keyword arguments of Optuna's class.
    steps: number of steps of a whole trial.
    every: steps between two evaluations.

  Raises:
    ConfigError: for options that Optuna refuses.
  """
  defaults = {
    'hyperband': {'min_resource': every, 'max_resource': steps},
    'successive_halving': {'min_resource': every},
    'percentile': {'percentile': 25.0},
  }
  options = defaults.get(options['name'], {}) | dict(options)
  return _make('pruner', options)


def pruner_errors(
  options: Mapping[str, Any], *, steps: int, every: int
) -> Iterator[str]:
  """What Optuna refuses, and why a pruner that halves would never prune.

  The arguments are those of `pruner`.
  """
  name, first = options['name'], options.get('min_resource', every)
  try:
    study = optuna.create_study(
      pruner=pruner(options, steps=steps, every=every)
    )
    # Some options are refused at the first decision only.
    trial = study.ask()
    trial.report(0.0, every)
    trial.should_prune()
  except (TypeError, ValueError, ArithmeticError) as error:
    yield f'pruner={dict(options)}: {error}'
    return
  if name not in ('hyperband', 'successive_halving') or first == 'auto':
    return
  factor = options.get('reduction_factor', 4)
  rung = first * factor ** options.get('min_early_stopping_rate', 0)
  last = (steps - 1) // every * every
  if rung > last:
    yield (
      f'pruner={name!r}: min_resource={first} never prunes: it begins at step '
      f'{rung}, and the last evaluation before the end of train.steps={steps} '
      f'is that of step {last}; lower it, or raise train.steps'
    )


def sampler_errors(
  options: Mapping[str, Any], space: Space, num_metrics: int
) -> Iterator[str]:
  """Why a sampler can't search this space, and which one can."""
  name = options['name']
  conditional = [path for path, d in space.items() if d.condition]
  choices = [path for path, d in space.items() if d.values is not None]
  if conditional and name in ('grid', 'cmaes', 'quasi_random'):
    yield (
      f'sampler={name!r} takes no field that depends on another one '
      f"({', '.join(conditional)}); use 'tpe' or 'random', or choices of dicts"
    )
  if name == 'cmaes' and (choices or num_metrics > 1):
    yield (
      "sampler='cmaes' takes one metric and numbers only, no choices; use 'tpe'"
    )
  infinite = [f'{path}: {d}' for path, d in space.items() if d.grid() is None]
  if infinite and name == 'grid':
    yield (
      f"{', '.join(infinite)} has infinitely many values, and sampler='grid' "
      'tries all; use choice(...), or uniform or integers with a step'
    )
    return
  try:
    sampler(options, space, seed=0, number=0)
  except ConfigError as error:
    yield str(error)


def grid_size(space: Space) -> int:
  """Number of points of a space's grid."""
  return math.prod(len(d.grid()) for d in space.values())


def _make(what: str, options: Mapping[str, Any], **fixed: Any) -> Any:
  """Calls Optuna's class; ConfigError for options that it refuses."""
  own = {name: value for name, value in options.items() if name != 'name'}
  try:
    with warnings.catch_warnings():
      # That arguments may change in a later version, which is an error here.
      warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
      return KINDS[what][options['name']](**own, **fixed)
  except (TypeError, ValueError) as error:
    raise ConfigError(f'{what}={dict(options)}: {error}') from error
