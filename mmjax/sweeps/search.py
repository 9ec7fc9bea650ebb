"""Optuna's samplers and pruners by name; no search algorithm is ours."""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.config import fields as fields_lib
from mmjax.errors import ConfigError
from mmjax.sweeps import space as space_lib

Space = Mapping[str, space_lib.Dimension]

# 'gp' is left out: it would need PyTorch.
SAMPLERS = {
  'grid': optuna.samplers.GridSampler,
  'random': optuna.samplers.RandomSampler,
  'quasi_random': optuna.samplers.QMCSampler,
  'tpe': optuna.samplers.TPESampler,
  'cmaes': optuna.samplers.CmaEsSampler,
  'nsga2': optuna.samplers.NSGAIISampler,
  'nsga3': optuna.samplers.NSGAIIISampler,
}
PRUNERS = {
  'none': optuna.pruners.NopPruner,
  'hyperband': optuna.pruners.HyperbandPruner,
  'successive_halving': optuna.pruners.SuccessiveHalvingPruner,
  'median': optuna.pruners.MedianPruner,
  'percentile': optuna.pruners.PercentilePruner,
  'threshold': optuna.pruners.ThresholdPruner,
}
_MULTI_OBJECTIVE = ('grid', 'random', 'quasi_random', 'tpe', 'nsga2', 'nsga3')
# Their points are one sequence of the whole sweep.
_SEQUENCES = ('grid', 'quasi_random')


class _Point(optuna.samplers.BaseSampler):
  """Samples one point that is known beforehand: path -> stored value."""

  def __init__(self, point: Mapping[str, Any]):
    self._point = point

  def infer_relative_search_space(self, study, trial) -> dict[str, Any]:
    return {}

  def sample_relative(self, study, trial, search_space) -> dict[str, Any]:
    return {}

  def sample_independent(self, study, trial, param_name, distribution) -> Any:
    return self._point[param_name]


def sampler(
  options: Mapping[str, Any],
  space: Space,
  *,
  seed: int,
  number: int,
  index: int,
) -> optuna.samplers.BaseSampler:
  """The sampler of one trial.

  Each trial has a random stream of its own, derived from the sweep's seed and
  the trial's number, so that a trial's parameters do not depend on which worker
  asks for them. A grid's points and a quasi-random sequence are numbered.

  Args:
    options: `name`, and keyword arguments of Optuna's class.
    space: path -> dimension.
    seed: the sweep's.
    number: the trial's in its study.
    index: the trial's among those that are not retries.
  """
  if options['name'] in _SEQUENCES:
    return _Point(points(options, space, seed=seed, count=index + 1)[index])
  sequence = np.random.SeedSequence([seed, number])
  own_seed = int(sequence.generate_state(1)[0])
  return _make('sampler', options, {}, seed=own_seed)


def points(
  options: Mapping[str, Any], space: Space, *, seed: int, count: int
) -> list[dict[str, Any]]:
  """The first points of a grid in random order, or of a quasi-random sequence.

  Args:
    options: as in `sampler`.
    space: path -> dimension.
    seed: the sweep's.
    count: number of points.

  Returns:
    Path -> stored value, of each point.
  """
  if options['name'] == 'grid':
    grid = {path: d.grid() for path, d in space.items()}
    sampler = _make('sampler', options, {}, seed=seed, search_space=grid)
  else:
    sampler = _make('sampler', options, {'scramble': True}, seed=seed)
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study(sampler=sampler)
  distributions = {path: d.distribution for path, d in space.items()}
  return [study.ask(distributions).params for _ in range(count)]


def pruner(
  options: Mapping[str, Any], *, steps: int, every: int
) -> optuna.pruners.BasePruner:
  """The pruner of a study whose trials report at steps of training.

  Args:
    options: `name`, and keyword arguments of Optuna's class.
    steps: of a whole trial.
    every: steps between two evaluations.
  """
  defaults = {
    'hyperband': {'min_resource': every, 'max_resource': steps},
    'successive_halving': {'min_resource': every},
    'percentile': {'percentile': 25.0},
  }
  return _make('pruner', options, defaults.get(options['name'], {}))


def pruner_errors(
  options: Mapping[str, Any], *, steps: int, every: int
) -> list[str]:
  """What Optuna refuses, and why a pruner that halves would never prune.

  Args:
    options: `name`, and keyword arguments of Optuna's class.
    steps: of a whole trial.
    every: steps between two evaluations.
  """
  name = options['name']
  try:
    pruner(options, steps=steps, every=every)
  except ConfigError as error:
    return [str(error)]
  if name not in ('hyperband', 'successive_halving'):
    return []
  first = options.get('min_resource', every)
  largest = options.get('max_resource', steps)
  factor = options.get('reduction_factor', 4)
  for option, value in (('min_resource', first), ('max_resource', largest)):
    # Optuna would estimate the first, and fail in the first trial for the last.
    if value != 'auto' and type(value) is not int:
      return [f'pruner={name!r}: {option}={value!r} is not a whole number']
  try:  # Hyperband's constructor does not check these.
    optuna.pruners.SuccessiveHalvingPruner(first, factor)
  except (ValueError, TypeError) as error:
    return [f'pruner={name!r}: {error}']
  if first == 'auto':
    return []
  if largest != 'auto' and largest < first:
    return [
      f'pruner={name!r}: max_resource={largest} is below min_resource={first}'
    ]
  rung = first * factor ** options.get('min_early_stopping_rate', 0)
  last = (steps - 1) // every * every
  if rung > last:
    return [
      f'pruner={name!r}: min_resource={first} never prunes: it begins at step '
      f'{rung}, and the last evaluation before the end of train.steps={steps} '
      f'is that of step {last}; lower it, or raise train.steps'
    ]
  return []


def sampler_errors(
  options: Mapping[str, Any], space: Space, num_metrics: int
) -> list[str]:
  """Why a sampler can't search this space, and which one can."""
  errors = list(_space_errors(options['name'], space, num_metrics))
  if not errors:
    try:
      sampler(options, space, seed=0, number=0, index=0)
    except ConfigError as error:
      errors.append(str(error))
  return errors


def _space_errors(name: str, space: Space, num_metrics: int) -> Iterator[str]:
  if num_metrics > 1 and name not in _MULTI_OBJECTIVE:
    yield (
      f'sampler={name!r} takes one metric; for {num_metrics} there are '
      f'{", ".join(_MULTI_OBJECTIVE)}'
    )
  conditional = [path for path, d in space.items() if d.conditions]
  if conditional and name in ('grid', 'cmaes', 'quasi_random'):
    yield (
      f'sampler={name!r} takes no field that depends on another one '
      f"({', '.join(conditional)}); use 'tpe' or 'random', or choices of "
      'dicts'
    )
  choices = [path for path, d in space.items() if d.values is not None]
  if choices and name == 'cmaes':
    yield (
      f"sampler='cmaes' takes numbers only, and {', '.join(choices)} are "
      "choices; use 'tpe'"
    )
  if name == 'grid':
    for path, dimension in space.items():
      if not dimension.is_finite():
        yield (
          f"{path}: {dimension} has infinitely many values, and sampler='grid' "
          'tries all; use choice(...), or uniform or integers with a step'
        )


def grid_size(space: Space) -> int:
  """Number of points of a space's grid."""
  return math.prod(len(d.grid()) for d in space.values())


def named(what: str, value: Any, known: Mapping[str, Any]) -> dict[str, Any]:
  """A name, or a dict of a name and options, as such a dict.

  Raises:
    ConfigError: if it is neither, the name is unknown, or an option is not
      plain data.
  """
  if isinstance(value, str):
    value = {'name': value}
  if not isinstance(value, Mapping) or 'name' not in value:
    raise ConfigError(
      f'{what}={value!r} is not legal: a name, or '
      f'dict(name={list(known)[1]!r}, ...)'
    )
  name = value['name']
  if not isinstance(name, str) or name not in known:
    raise ConfigError(
      f'{what}={name!r} is unknown; use one of {", ".join(known)}'
    )
  out = {option: space_lib.plain(v) for option, v in value.items()}
  for option, v in out.items():
    if not fields_lib.is_plain(v):
      raise ConfigError(
        f'{what}: {option}={v!r} is not legal: options are plain data, so that '
        'all workers have the same'
      )
  return out


def _make(
  what: str,
  options: Mapping[str, Any],
  defaults: Mapping[str, Any],
  **fixed: Any,
) -> Any:
  """Calls Optuna's class; ConfigError for options that it refuses."""
  kind = {'sampler': SAMPLERS, 'pruner': PRUNERS}[what][options['name']]
  own = {name: value for name, value in options.items() if name != 'name'}
  try:
    with warnings.catch_warnings():
      # That arguments may change in a later version, which is an error here.
      warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
      return kind(**{**defaults, **own}, **fixed)
  except (TypeError, ValueError) as error:
    raise ConfigError(f'{what}={dict(options)}: {error}') from error
