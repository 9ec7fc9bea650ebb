"""A sweep file: which config, which of its fields, which metric, how searched.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mmjax.config import overrides as overrides_lib
from mmjax.config import settings, user_file
from mmjax.errors import ConfigError
from mmjax.sweeps import legal, search
from mmjax.sweeps import space as space_lib
from mmjax.train import loop

COSTS = legal.COSTS


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep, checked.

  Attributes:
    file: where it was written.
    location: of its config: FILE.py, or FILE.py:ARGUMENT.
    base: the completed config that trials vary.
    overrides: path -> (value in the config's own file, value in all trials) of
      what `set` and flags set; None where the file has none.
    metrics: names in a run's results, or of `COSTS`.
    directions: 'maximize' or 'minimize' for each.
    space: path -> what its field is tried with.
    trials: how many points.
    sampler: name and options.
    pruner: name and options.
    seed: of the search.
    repeats: runs of each point; their config's seeds count up from the base's.
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
      # The twin that sees no image would double a trial's time.
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
      'space': {
        path: repr(dimension) for path, dimension in self.space.items()
      },
      'sampler': dict(self.sampler),
      'pruner': dict(self.pruner),
      'seed': self.seed,
      'repeats': self.repeats,
    }


def assign(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  """Sets a field of a completed config.

  Raises:
    ConfigError: if there is no such field, or it is a section and this no dict.
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
    file: Python with a function `get_sweep`; the names of `space.NAMES` are
      there without an import.
    overrides: (path, text) of config fields set by flags, in all trials.

  Raises:
    ConfigError: naming what is wrong, all of it at once where that is possible.
  """
  given = _read(file)
  _tell(file, legal.wrong_fields(given))
  errors: list[str] = []
  collected = functools.partial(legal.collected, errors)
  location = str(given['config'])
  base = collected(overrides_lib.load, location)
  _tell(file, errors)
  # The values are data of plain Python.
  fixed = {p: space_lib.plain(v) for p, v in given.get('set', {}).items()}
  own = copy.deepcopy(base)
  for path, value in fixed.items():
    collected(assign, base, path, value)
  _tell(file, [f'set: {error}' for error in errors])
  overrides_lib.override(base, overrides)
  base = collected(settings.complete, base)
  _tell(file, errors)
  metrics = legal.several(given['metric'])
  space = dict(given['space'])
  errors += legal.wrong_base(base, metrics)
  errors += legal.wrong_space(space, base)
  sampler = collected(
    search.named, 'sampler', given.get('sampler', 'tpe'), search.SAMPLERS
  )
  pruner = collected(
    search.named, 'pruner', given.get('pruner', 'none'), search.PRUNERS
  )
  _tell(file, errors)
  errors += search.wrong_sampler(sampler, space, len(metrics))
  errors += legal.wrong_pruner(pruner, metrics, space, base.train)
  _tell(file, errors)
  trials = collected(legal.trials, given.get('trials'), sampler, space)
  _tell(file, errors)
  paths = [*fixed, *(path for path, _ in overrides)]
  return Sweep(
    file=str(file),
    location=location,
    base=base,
    overrides={path: (_at(own, path), _at(base, path)) for path in paths},
    metrics=metrics,
    directions=legal.several(given['direction']),
    space=space,
    trials=trials,
    sampler=sampler,
    pruner=pruner,
    seed=given.get('seed', 0),
    repeats=given.get('repeats', 1),
  )


def check(
  sweep: Sweep, build_of: Callable[[str], Callable[[Any], Any]]
) -> None:
  """Tries the ends of every range, few whole numbers and all choices, alone.

  Everything is built as a run would build it, shapes included, but nothing is
  computed. A field that depends on others is tried with all values that these
  may then have. Otherwise, two values that are legal each may still be refused
  together; such a trial fails, and says why.

  Args:
    sweep: what `load` gives.
    build_of: name of an experiment -> its `build`.

  Raises:
    ConfigError: naming every value that the config or its experiment refuses.
  """
  try:
    _try(sweep.config({}), build_of)
  except ConfigError as error:
    _tell(sweep.file, [f'without the space: {error}'])
  errors, refused = [], []
  for path, dimension in sweep.space.items():
    for value in dimension.tried():
      for others in space_lib.needed(sweep.space, path):
        if any(item in refused for item in others.items()):
          continue  # That was told.
        try:
          _try(sweep.config(others | {path: value}), build_of)
        except (ConfigError, TypeError) as error:
          errors.append(_refusal(sweep, path, value, others, error))
          refused.append((path, value))
  if errors:
    _tell(sweep.file, dict.fromkeys(errors))


def _try(
  config: ml_collections.ConfigDict,
  build_of: Callable[[str], Callable[[Any], Any]],
) -> None:
  loop.check(config, build_of(config.experiment))


def _refusal(
  sweep: Sweep,
  path: str,
  value: Any,
  others: Mapping[str, Any],
  error: Exception,
) -> str:
  """A value that the config refuses, in words."""
  told, typed = str(error), isinstance(error, TypeError)
  if typed:
    told = f'{type(error).__name__}: {told}'
  where = ', '.join(f'{p}={v!r}' for p, v in others.items())
  out = f'{path}={value!r}' + (f' with {where}' if where else '') + f': {told}'
  whole = typed or type(_at(sweep.base, path)) is int
  if whole and isinstance(value, float):
    out += f'; for whole numbers, integers(...) instead of {sweep.space[path]}'
  return out


def _read(file: Path | str) -> dict[str, Any]:
  get_sweep = user_file.function(
    file, 'get_sweep', flag='sweep', names=space_lib.NAMES
  )
  with user_file.naming(file, 'sweep'):
    given = get_sweep()
  if not isinstance(given, dict):
    raise ConfigError(f'--sweep={file}: get_sweep() gives no dict: {given!r}')
  return given


def _tell(file: Path | str, errors: Iterable[str]) -> None:
  """Raises what was found, if anything was."""
  errors = list(errors)
  if errors:
    raise ConfigError(f'{file}:\n  ' + '\n  '.join(errors))


def _at(config: Any, path: str) -> Any:
  """The value of a field, as data; None if it isn't there."""
  for name in path.split('.'):
    config = config.get(name) if hasattr(config, 'get') else None
  return config.to_dict() if hasattr(config, 'to_dict') else config
