"""A sweep file: which config, which fields, which metric, which search.

def get_sweep():
  return dict(
    config='configs/contrastive_shapes.py',
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={'optimizer.lr': loguniform(1e-4, 3e-3)},
    trials=20,
  )
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import optuna

from mmjax.config import overrides as overrides_lib
from mmjax.config import settings, user_file
from mmjax.errors import ConfigError
from mmjax.sweeps import fields, search
from mmjax.sweeps import space as space_lib


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A valid sweep.

  Attributes:
    file: the sweep's file.
    location: the config's: FILE.py, or FILE.py:ARGUMENT.
    in_file: the completed config as its own file has it.
    base: the completed config that trials vary, with `set` and flags.
    metrics: names in a run's results, or in `fields.COSTS`.
    directions: 'maximize' or 'minimize' for each.
    space: path -> the field's dimension.
    trials: number of points.
    sampler: name and options.
    pruner: name and options.
    seed: the search's.
    repeats: runs of each point, whose seeds count up from the base config's.
  """

  file: str
  location: str
  in_file: ml_collections.ConfigDict
  base: ml_collections.ConfigDict
  metrics: tuple[str, ...]
  directions: tuple[str, ...]
  space: Mapping[str, space_lib.Dimension]
  trials: int
  sampler: Mapping[str, Any]
  pruner: Mapping[str, Any]
  seed: int = 0
  repeats: int = 1

  def config(
    self, values: Mapping[str, Any], repeat: int = 0
  ) -> ml_collections.ConfigDict:
    """The config of one run.

    Args:
      values: path -> value, of the space's fields.
      repeat: number of the run among those of this point.

    Raises:
      ConfigError: if there is no such field.
    """
    config = copy.deepcopy(self.base)
    for path, value in values.items():
      fields.assign(config, path, value)
    with config.unlocked():
      config.seed = config.seed + repeat
      # The blind baseline would double a trial's time.
      config.train.blind_baseline = False
    return config

  def description(self) -> dict[str, Any]:
    """What the study stores about the sweep, as plain data."""
    return {
      'file': self.file,
      'location': self.location,
      'in_file': settings.to_json(self.in_file),
      'config': settings.to_json(self.base),
      'metric': list(self.metrics),
      'direction': list(self.directions),
      'space': {path: [str(d), d.condition] for path, d in self.space.items()},
      'sampler': dict(self.sampler),
      'pruner': dict(self.pruner),
      'seed': self.seed,
      'repeats': self.repeats,
    }


def load(file: Path | str, overrides: Sequence[tuple[str, str]] = ()) -> Sweep:
  """Reads a sweep file and the config that it names.

  Args:
    file: Python with a function `get_sweep`, which can use the names of
      `space.NAMES` without an import.
    overrides: (path, text) of config fields set by flags, in all trials.

  Raises:
    ConfigError: naming all errors that can be found together.
  """
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  values = _read(file)
  raise_all(file, fields.errors(values))
  values = fields.complete(values)
  in_file = overrides_lib.load(values['config'])
  base = _base(file, in_file, values['set'], overrides)
  space, metrics = values['space'], values['metric']
  raise_all(
    file,
    [
      *fields.refused(settings.validate, base),
      *fields.goal_errors(metrics, values['direction'], base.data.eval_split),
      *fields.space_errors(space, base),
    ],
  )
  sampler = search.named('sampler', values['sampler'])
  pruner = search.named('pruner', values['pruner'])
  raise_all(
    file,
    [
      *search.sampler_errors(sampler, space, len(metrics)),
      *fields.pruner_errors(pruner, metrics, space, base.train),
    ],
  )
  raise_all(file, fields.trials_errors(values['trials'], sampler, space))
  return Sweep(
    file=str(file),
    location=values['config'],
    in_file=in_file,
    base=base,
    metrics=metrics,
    directions=values['direction'],
    space=space,
    trials=values['trials'] or search.grid_size(space),
    sampler=sampler,
    pruner=pruner,
    seed=values['seed'],
    repeats=values['repeats'],
  )


def raise_all(file: Path | str, errors: Iterable[str]) -> None:
  """Raises a sweep file's errors, if there are any, as one `ConfigError`."""
  errors = list(dict.fromkeys(errors))
  if errors:
    raise ConfigError(f'{file}:\n  ' + '\n  '.join(errors))


def _read(file: Path | str) -> dict[str, Any]:
  get_sweep = user_file.function(
    file, 'get_sweep', flag='sweep', names=space_lib.NAMES
  )
  with user_file.naming(file, 'sweep'):
    values = get_sweep()
  if not isinstance(values, dict):
    raise ConfigError(
      f'--sweep={file}: get_sweep() returns {values!r}; return a dict'
    )
  return values


def _base(
  file: Path | str,
  in_file: ml_collections.ConfigDict,
  fixed: Mapping[str, Any],
  overrides: Sequence[tuple[str, str]],
) -> ml_collections.ConfigDict:
  """The config that trials vary: with the sweep's `set`, then with flags."""
  base = copy.deepcopy(in_file)
  errors = [
    f'set: {error}'
    for path, value in fixed.items()
    for error in fields.refused(
      fields.assign, base, path, space_lib.plain(value)
    )
  ]
  raise_all(file, errors)
  overrides_lib.override(base, overrides)
  return base
