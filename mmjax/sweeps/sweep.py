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
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mmjax.config import overrides as overrides_lib
from mmjax.config import settings, user_file
from mmjax.errors import ConfigError
from mmjax.sweeps import fields, search
from mmjax.sweeps import space as space_lib

COSTS = fields.COSTS


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A valid sweep.

  Attributes:
    file: the sweep's file.
    location: the config's: FILE.py, or FILE.py:ARGUMENT.
    base: the completed config that trials vary.
    overrides: path -> (value in the config's own file, value in all trials) of
      the fields that `set` and flags set; None where the file has none.
    metrics: names in a run's results, or in `COSTS`.
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
  base: ml_collections.ConfigDict
  overrides: Mapping[str, tuple[Any, Any]]
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
      assign(config, path, value)
    with config.unlocked():
      config.seed = config.seed + repeat
      # The blind baseline would double a trial's time.
      config.train.blind_baseline = False
    return config

  def prunes(self) -> bool:
    """Whether trials may be ended before their last step."""
    return self.pruner['name'] != 'none'

  def identity(self) -> dict[str, Any]:
    """What all workers of a study must agree on, as plain data."""
    return {
      'config': settings.to_json(self.base),
      'metric': list(self.metrics),
      'direction': list(self.directions),
      'space': {path: [str(d), d.conditions] for path, d in self.space.items()},
      'sampler': dict(self.sampler),
      'pruner': dict(self.pruner),
      'seed': self.seed,
      'repeats': self.repeats,
    }


def assign(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  """Sets a field of a completed config.

  Raises:
    ConfigError: if there is no such field, or a section is set to something
      else than a dict.
  """
  section, name, field = overrides_lib.find(config, path)
  if field.kind == 'dict' and not field.accepts(value):
    raise ConfigError(f'{path}={value!r} is not legal: {field.describe()}')
  with config.unlocked():
    if name in section:
      del section[name]  # Another type may be legal here.
    section[name] = value


def load(file: Path | str, overrides: Sequence[tuple[str, str]] = ()) -> Sweep:
  """Reads a sweep file and the config that it names.

  Args:
    file: Python with a function `get_sweep`, which can use the names of
      `space.NAMES` without an import.
    overrides: (path, text) of config fields set by flags, in all trials.

  Raises:
    ConfigError: naming all errors that can be found together.
  """
  values = _read(file)
  raise_all(file, fields.field_errors(values))
  base, changes = _base(file, values, overrides)
  metrics, space = fields.as_tuple(values['metric']), dict(values['space'])
  errors = fields.base_errors(base, metrics)
  errors += fields.space_errors(space, base)
  collect = functools.partial(fields.collect, errors)
  sampler = collect(
    search.named, 'sampler', values.get('sampler', 'tpe'), search.SAMPLERS
  )
  pruner = collect(
    search.named, 'pruner', values.get('pruner', 'none'), search.PRUNERS
  )
  raise_all(file, errors)
  errors += search.sampler_errors(sampler, space, len(metrics))
  errors += fields.pruner_errors(pruner, metrics, space, base.train)
  raise_all(file, errors)
  trials = collect(fields.num_trials, values.get('trials'), sampler, space)
  raise_all(file, errors)
  return Sweep(
    file=str(file),
    location=str(values['config']),
    base=base,
    overrides=changes,
    metrics=metrics,
    directions=fields.as_tuple(values['direction']),
    space=space,
    trials=trials,
    sampler=sampler,
    pruner=pruner,
    seed=values.get('seed', 0),
    repeats=values.get('repeats', 1),
  )


def raise_all(file: Path | str, errors: Iterable[str]) -> None:
  """Raises a sweep file's errors, if there are any, as one `ConfigError`."""
  errors = list(dict.fromkeys(errors))
  if errors:
    raise ConfigError(f'{file}:\n  ' + '\n  '.join(errors))


def value_at(config: Any, path: str) -> Any:
  """The value of a field, as plain data; None if there is none."""
  for name in path.split('.'):
    config = config.get(name) if hasattr(config, 'get') else None
  return config.to_dict() if hasattr(config, 'to_dict') else config


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
  values: Mapping[str, Any],
  overrides: Sequence[tuple[str, str]],
) -> tuple[ml_collections.ConfigDict, dict[str, tuple[Any, Any]]]:
  """The config that trials vary, and `Sweep.overrides`."""
  errors: list[str] = []
  base = fields.collect(errors, overrides_lib.load, str(values['config']))
  raise_all(file, errors)
  in_file = copy.deepcopy(base)
  fixed = values.get('set', {})
  for path, value in fixed.items():
    fields.collect(errors, assign, base, path, space_lib.plain(value))
  raise_all(file, [f'set: {error}' for error in errors])
  overrides_lib.override(base, overrides)
  base = fields.collect(errors, settings.complete, base)
  raise_all(file, errors)
  paths = [*fixed, *(path for path, _ in overrides)]
  return base, {p: (value_at(in_file, p), value_at(base, p)) for p in paths}
