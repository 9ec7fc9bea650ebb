"""Optuna's samplers and pruners by name; no search algorithm is ours."""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.errors import ConfigError, check_choice
from mmjax.sweeps import sweep as sweep_lib

KINDS = {
  # 'gp' is left out: it would need PyTorch.
  'sampler': {
    'grid': optuna.samplers.GridSampler,
    'random': optuna.samplers.RandomSampler,
    'quasi_random': optuna.samplers.QMCSampler,
    'tpe': optuna.samplers.TPESampler,
  },
  'pruner': {
    'none': optuna.pruners.NopPruner,
    'hyperband': optuna.pruners.HyperbandPruner,
    'successive_halving': optuna.pruners.SuccessiveHalvingPruner,
    'median': optuna.pruners.MedianPruner,
  },
}


def named(what: str, value: Any) -> dict[str, Any]:
  """A name, or a dict of a name and options, as such a dict.

  Args:
    what: 'sampler' or 'pruner'.
    value: value, as in a sweep file.

  Raises:
    ConfigError: if it is neither, or the name is unknown.
  """
  out = dict(value) if isinstance(value, Mapping) else {'name': value}
  check_choice(out.get('name'), KINDS[what], what)
  return out


def sampler(sweep: sweep_lib.Sweep, number: int) -> optuna.samplers.BaseSampler:
  """The sampler of the trial of this number.

  Each trial has a random stream of its own, derived from the sweep's seed and
  the trial's number, so that a trial's parameters do not depend on which worker
  asks for them. The points of a grid or a quasi-random sequence are one stream,
  which Optuna numbers.

  Raises:
    ConfigError: for options that Optuna refuses.
  """
  name, seed = sweep.sampler['name'], sweep.seed
  if name == 'grid':
    grid = {path: list(d.grid()) for path, d in sweep.space.items()}
    return _make('sampler', sweep.sampler, search_space=grid, seed=seed)
  if name == 'quasi_random':
    options = {'scramble': True, **sweep.sampler}
    return _make('sampler', options, seed=seed)
  own = np.random.SeedSequence([seed, number]).generate_state(1)[0]
  return _make('sampler', sweep.sampler, seed=int(own))


def pruner(sweep: sweep_lib.Sweep) -> optuna.pruners.BasePruner:
  """The pruner, whose resource is the number of steps of training.

  Raises:
    ConfigError: for options that Optuna refuses.
  """
  steps, every = sweep.base.train.steps, sweep.base.train.eval_every
  defaults = {
    'hyperband': {'min_resource': every, 'max_resource': steps},
    'successive_halving': {'min_resource': every},
  }
  own = defaults.get(sweep.pruner['name'], {})
  return _make('pruner', own | sweep.pruner)


def sampler_errors(sweep: sweep_lib.Sweep) -> Iterator[str]:
  """Why the sampler can't search the space, and which one can."""
  name, space = sweep.sampler['name'], sweep.space
  conditional = [path for path, d in space.items() if d.condition]
  if conditional and name in ('grid', 'quasi_random'):
    yield (
      f'sampler={name!r} takes no field that depends on another one '
      f"({', '.join(conditional)}); use 'tpe' or 'random', or choices of dicts"
    )
  infinite = [
    f'{path}: {d.text}' for path, d in space.items() if d.grid() is None
  ]
  if name == 'grid' and infinite:
    yield (
      f"{', '.join(infinite)} has infinitely many values, and sampler='grid' "
      'tries all; use choice(...), or uniform or integers with a step'
    )
  elif name == 'grid' and (sweep.trials or 0) > grid_size(sweep):
    yield (
      f'trials={sweep.trials}, but the grid has {grid_size(sweep)} points; '
      'leave trials out'
    )
  elif name != 'grid' and sweep.trials is None:
    yield 'trials is missing: the number of points'
  else:
    try:
      sampler(sweep, 0)
    except ConfigError as error:
      yield str(error)


def pruner_errors(sweep: sweep_lib.Sweep) -> Iterator[str]:
  """Why the pruner can't prune, or never would."""
  options, train = sweep.pruner, sweep.base.train
  name, steps, every = options['name'], train.steps, train.eval_every
  if name == 'none':
    return
  if {'train.steps', 'train.eval_every'} & set(sweep.space):
    return  # It depends on the trial.
  if not 0 < every < steps:
    yield (
      f'pruner={name!r} needs evaluations during training: set '
      f'train.eval_every (now {every}) to a part of train.steps={steps}, for '
      f"example with set={{'train.eval_every': {max(1, steps // 10)}}}"
    )
    return
  try:
    # Some options are refused at the first decision only.
    trial = optuna.create_study(pruner=pruner(sweep)).ask()
    trial.report(0.0, every)
    trial.should_prune()
  except (TypeError, ValueError, ArithmeticError) as error:
    yield f'pruner={dict(options)}: {error}'
    return
  first = options.get('min_resource', every)
  if name in ('hyperband', 'successive_halving') and first != 'auto':
    factor = options.get('reduction_factor', 4)
    rung = first * factor ** options.get('min_early_stopping_rate', 0)
    last = (steps - 1) // every * every
    if rung > last:
      yield (
        f'pruner={name!r}: min_resource={first} never prunes: it begins at '
        f'step {rung}, and the last evaluation before the end of '
        f'train.steps={steps} is that of step {last}; lower it, or raise '
        'train.steps'
      )


def grid_size(sweep: sweep_lib.Sweep) -> int:
  """Number of points of the space's grid."""
  return math.prod(len(d.grid()) for d in sweep.space.values())


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
