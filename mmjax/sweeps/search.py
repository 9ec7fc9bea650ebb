"""Optuna's samplers and pruners by name; no search algorithm is ours."""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.config import fields, settings
from mmjax.errors import ConfigError
from mmjax.sweeps import space as space_lib


class _Grid(optuna.samplers.GridSampler):
  """Leaves it to the sweep to see that all points are done."""

  def after_trial(self, *_) -> None:
    pass


class _QuasiRandom(optuna.samplers.QMCSampler):
  """Gives the trial of a number the sequence's point of that number.

  Optuna's draws the first trial otherwise, and counts how often it was asked,
  and so skips a point when a trial is asked again.

  Attributes:
    space: path -> distribution.
    number: the trial's.
  """

  space: Mapping[str, optuna.distributions.BaseDistribution]
  number: int

  def infer_relative_search_space(self, *_) -> dict[str, Any]:
    return {p: d for p, d in self.space.items() if not d.single()}

  def _find_sample_id(self, *_) -> int:
    return self.number


# 'gp' is left out: it would need PyTorch.
SAMPLERS = {
  'grid': _Grid,
  'random': optuna.samplers.RandomSampler,
  'quasi_random': _QuasiRandom,
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
_SEVERAL = ('grid', 'random', 'quasi_random', 'tpe', 'nsga2', 'nsga3')
# Their order is one of the whole study, so that their seed is it too.
_ONE_SEED = ('grid', 'quasi_random')


def sampler(
  settings_: Mapping[str, Any],
  space: Mapping[str, space_lib.Dimension],
  *,
  seed: int,
  number: int,
) -> optuna.samplers.BaseSampler:
  """The sampler of one trial.

  Each trial has its own stream of random numbers, derived from the sweep's seed
  and the trial's number. So a trial gets the same parameters from the same
  history whichever process asks, and however often it is asked again.

  Args:
    settings_: `name` and keyword arguments of Optuna's class.
    space: path -> dimension.
    seed: the sweep's.
    number: the trial's.
  """
  name = settings_['name']
  if name not in _ONE_SEED:
    sequence = np.random.SeedSequence([seed, number])
    seed = int(sequence.generate_state(1)[0])
  given: dict[str, Any] = {'seed': seed}
  if name == 'grid':
    given['search_space'] = {p: d.grid() for p, d in space.items()}
  if name == 'quasi_random':
    given['scramble'] = True
  out = _make('sampler', SAMPLERS, settings_, given)
  if name == 'quasi_random':
    out.space = {p: d.distribution() for p, d in space.items()}
    out.number = number
  return out


def pruner(
  settings_: Mapping[str, Any], *, steps: int, every: int
) -> optuna.pruners.BasePruner:
  """The pruner of a study whose trials report at steps of training.

  Args:
    settings_: `name` and keyword arguments of Optuna's class.
    steps: of a whole trial.
    every: steps between two evaluations.
  """
  given: dict[str, Any] = {}
  if settings_['name'] == 'hyperband':
    given = {'min_resource': every, 'max_resource': steps}
  if settings_['name'] == 'successive_halving':
    given = {'min_resource': every}
  if settings_['name'] == 'percentile':
    given = {'percentile': 25.0}
  return _make('pruner', PRUNERS, settings_, given)


def wrong_halving(
  settings_: Mapping[str, Any], *, steps: int, every: int
) -> list[str]:
  """What keeps pruners that halve from ever pruning, in words.

  Args:
    settings_: of a pruner.
    steps: of a whole trial.
    every: steps between two evaluations.
  """
  name = settings_['name']
  first = settings_.get('min_resource', every)
  if name not in ('hyperband', 'successive_halving') or first == 'auto':
    return []
  factor = settings_.get('reduction_factor', 4)
  errors = [
    f'pruner={name!r}: {option}={value!r} is not legal: a whole number from '
    f'{low}'
    for option, value, low in (
      ('min_resource', first, 1),
      ('reduction_factor', factor, 2),
    )
    if not isinstance(value, int) or isinstance(value, bool) or value < low
  ]
  if errors:
    return errors
  largest = settings_.get('max_resource', steps)
  if largest != 'auto' and largest < first:
    return [
      f'pruner={name!r}: max_resource={largest} is below min_resource={first}'
    ]
  rung = first * factor ** settings_.get('min_early_stopping_rate', 0)
  last = (steps - 1) // every * every
  if rung > last:
    return [
      f'pruner={name!r}: min_resource={first} never prunes: it begins at step '
      f'{rung}, and the last evaluation before the end of train.steps={steps} '
      f'is that of step {last}; lower it, or raise train.steps'
    ]
  return []


def wrong_sampler(
  settings_: Mapping[str, Any],
  space: Mapping[str, space_lib.Dimension],
  num_metrics: int,
) -> list[str]:
  """Why a sampler can't search this space, and what can, in words."""
  name, errors = settings_['name'], []
  if num_metrics > 1 and name not in _SEVERAL:
    errors.append(
      f'sampler={name!r} takes one metric; for {num_metrics} there are '
      f'{", ".join(_SEVERAL)}'
    )
  conditional = [path for path, d in space.items() if d.conditions]
  if conditional and name in ('grid', 'cmaes', 'quasi_random'):
    errors.append(
      f'sampler={name!r} takes no field that depends on another one '
      f"({', '.join(conditional)}); use 'tpe' or 'random', or choices of "
      'dicts'
    )
  choices = [p for p, d in space.items() if isinstance(d, space_lib.Choice)]
  if choices and name == 'cmaes':
    errors.append(
      f"sampler='cmaes' takes numbers only, and {', '.join(choices)} are "
      "choices; use 'tpe'"
    )
  endless = [f'{path}: {d}' for path, d in space.items() if d.endless()]
  if endless and name == 'grid':
    errors += [
      f"{one} has no end of values, and sampler='grid' tries all; use "
      'choice(...), or uniform or integers with a step'
      for one in endless
    ]
  if errors:
    return errors
  try:
    sampler(settings_, space, seed=0, number=0)
  except ConfigError as error:
    return [str(error)]
  return []


def grid_size(space: Mapping[str, space_lib.Dimension]) -> int:
  """How many points the grid of a space has."""
  return math.prod(len(d.grid()) for d in space.values())


def named(what: str, given: Any, known: Mapping[str, Any]) -> dict[str, Any]:
  """A name, or a dict of a name and options, as such a dict.

  Raises:
    ConfigError: if it is neither, or the name or an option is unknown.
  """
  if isinstance(given, str):
    given = {'name': given}
  if not isinstance(given, Mapping) or 'name' not in given:
    raise ConfigError(
      f'{what}={given!r} is not legal: a name, or '
      f'dict(name={list(known)[1]!r}, ...)'
    )
  name = given['name']
  if not isinstance(name, str) or name not in known:
    raise ConfigError(
      f'{what}={name!r} is not there; there are {", ".join(known)}'
    )
  out = {option: space_lib.plain(value) for option, value in given.items()}
  odd = [k for k, value in out.items() if not fields.is_plain(value)]
  if odd:
    raise ConfigError(
      f'{what}: '
      + ', '.join(f'{k}={out[k]!r}' for k in odd)
      + ' is not legal: '
      'options are numbers, strings and the like, so that all workers can have '
      'the same'
    )
  return out


def _make(
  what: str,
  known: Mapping[str, Any],
  settings_: Mapping[str, Any],
  given: Mapping[str, Any],
) -> Any:
  options = {k: v for k, v in settings_.items() if k != 'name'}
  kind = known[settings_['name']]
  legal = list(inspect.signature(kind).parameters)
  if what == 'sampler':
    legal = [name for name in legal if name not in ('seed', 'search_space')]
  for name in options:
    if name not in legal:
      raise ConfigError(
        f'{what}: '
        + settings.unknown(name, legal).replace('config field', 'option')
      )
  try:
    with warnings.catch_warnings():
      # Optuna's word that arguments may change, which is told here as an error.
      warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
      return kind(**{**given, **options})
  except (TypeError, ValueError) as error:
    raise ConfigError(f'{what}={dict(settings_)}: {error}') from error
