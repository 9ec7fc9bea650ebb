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
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mmjax.sweeps import search
from mmjax.sweeps import space as space_lib
from mmjax.train import loop, main, settings
from mmjax.train.settings import UserError

DIRECTIONS = ('maximize', 'minimize')
# What a run's own results tell besides its evaluation.
COSTS = ('step_time', 'train_seconds')
_FIELDS = {
  'config': 'a config file, or file.py:argument',
  'metric': "such as 'val/retrieval/mean_r1'; several: a tuple",
  'direction': "'maximize' or 'minimize'; several: a tuple",
  'space': "dict of 'section.field' -> choice(...), loguniform(...), ...",
  'trials': 'how many points to try',
  'sampler': ', '.join(search.SAMPLERS),
  'pruner': ', '.join(search.PRUNERS),
  'seed': 'of the search',
  'repeats': 'runs of each point, with seeds of their own',
  'set': 'values that fields have in all trials',
}


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep, checked.

  Attributes:
    file: where it was written.
    location: of its config: FILE.py, or FILE.py:ARGUMENT.
    base: the completed config that trials vary.
    overrides: path -> value that all trials have.
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
  overrides: Mapping[str, Any]
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
      UserError: if there is no such field.
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
    UserError: if there is no such field.
  """
  with config.unlocked():
    section, name, _ = main.find(config, path)
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
    UserError: naming what is wrong, all of it at once where that is possible.
  """
  given = _read(file)
  errors = [
    settings.unknown(name, _FIELDS).replace('config field', 'field of a sweep')
    for name in given
    if name not in _FIELDS
  ]
  errors += [
    f'{name} is missing: {_FIELDS[name]}'
    for name in ('config', 'metric', 'direction', 'space')
    if name not in given
  ]
  if errors:
    raise UserError(_in(file, errors))
  base = main.load(given['config'])
  for path, value in given.get('set', {}).items():
    assign(base, path, value)
  main.override(base, overrides)
  metrics, directions = _tuple(given['metric']), _tuple(given['direction'])
  space = dict(given['space'])
  errors = _wrong_metrics(metrics, directions) + _wrong_space(space, base)
  if not base.data.eval_split and set(metrics) - set(COSTS):
    errors.append(
      "data.eval_split is '', so there are no metrics of validation to choose "
      'by; name a split'
    )
  seed, repeats = given.get('seed', 0), given.get('repeats', 1)
  errors += [
    f'{name}={value!r} is not legal: a whole number from {low}'
    for name, value, low in (('seed', seed, 0), ('repeats', repeats, 1))
    if not isinstance(value, int) or value < low
  ]
  if errors:
    raise UserError(_in(file, errors))
  sampler = search.named(
    'sampler', given.get('sampler', 'tpe'), search.SAMPLERS
  )
  pruner = search.named('pruner', given.get('pruner', 'none'), search.PRUNERS)
  search.check_sampler(sampler, space, len(metrics))
  sweep = Sweep(
    file=str(file),
    location=given['config'],
    base=base,
    overrides={**given.get('set', {}), **_set_by(base, overrides)},
    metrics=metrics,
    directions=directions,
    space=space,
    trials=_trials(given.get('trials'), sampler, space),
    sampler=sampler,
    pruner=pruner,
    seed=seed,
    repeats=repeats,
  )
  _check_pruner(sweep)
  return sweep


def check(
  sweep: Sweep, build_of: Callable[[str], Callable[[Any], Any]]
) -> None:
  """Tries the ends of every range, few whole numbers and all choices, alone.

  Everything is built as a run would build it, shapes included, but nothing is
  computed. Two values that are legal each may still be refused together; such a
  trial fails, and says why.

  Args:
    sweep: what `load` gives.
    build_of: name of an experiment -> its `build`.

  Raises:
    UserError: naming every value that the config or its experiment refuses.
  """
  build = build_of(sweep.base.experiment)
  loop.check(sweep.config({}), build)
  errors = []
  for path, dimension in sweep.space.items():
    for value in dimension.tried():
      chosen = _needed(sweep.space, path) | {path: value}
      try:
        loop.check(sweep.config(chosen), build)
      except UserError as error:
        errors.append(f'{path}={value!r}: {error}')
  if errors:
    raise UserError(_in(sweep.file, errors))


def _needed(space: Mapping[str, Any], path: str) -> dict[str, Any]:
  """Values of other fields with which the field `path` is set at all."""
  condition = space[path].condition
  if condition is None:
    return {}
  other, values = condition
  return _needed(space, other) | {other: values[0]}


def _read(file: Path | str) -> dict[str, Any]:
  path = Path(file)
  if not path.is_file():
    near = sorted(str(p) for p in path.parent.glob('[!_]*.py'))
    raise UserError(
      f'--sweep={file}: no such file'
      + (f'; there are {", ".join(near)}' if near else '')
    )
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  vars(module).update(space_lib.NAMES)
  spec.loader.exec_module(module)
  get_sweep = getattr(module, 'get_sweep', None)
  if get_sweep is None:
    raise UserError(f'--sweep={file}: it has no function get_sweep')
  given = get_sweep()
  if not isinstance(given, dict):
    raise UserError(f'--sweep={file}: get_sweep() gives no dict: {given!r}')
  return given


def _in(file: Path | str, errors: Sequence[str]) -> str:
  return f'{file}:\n  ' + '\n  '.join(errors)


def _tuple(value: Any) -> tuple[Any, ...]:
  return tuple(value) if isinstance(value, tuple | list) else (value,)


def _wrong_metrics(metrics: Any, directions: Any) -> list[str]:
  errors = []
  for name in metrics:
    if name not in COSTS and not str(name).startswith('val/'):
      errors.append(
        f"metric={name!r} is not legal: a metric of validation, 'val/...', or "
        f'one of {", ".join(COSTS)}; tests are for the run that was chosen'
      )
  errors += [
    f'direction={direction!r} is not legal: one of {", ".join(DIRECTIONS)}'
    for direction in directions
    if direction not in DIRECTIONS
  ]
  if len(metrics) != len(directions):
    errors.append(
      f'there are {len(metrics)} metrics and {len(directions)} directions; '
      'give one direction for each metric'
    )
  return errors


def _wrong_space(
  space: Mapping[str, Any], base: ml_collections.ConfigDict
) -> list[str]:
  errors = [] if space else ['space is empty; name at least one config field']
  before: list[str] = []
  for path, dimension in space.items():
    if not isinstance(dimension, space_lib.Dimension):
      errors.append(
        f'{path}: {dimension!r} is no range; use one of '
        f'{", ".join(space_lib.NAMES)}'
      )
      continue
    if dimension.condition is not None:
      errors += _wrong_condition(path, *dimension.condition, before, space)
    before.append(path)
    if path == 'seed' or path.startswith('train.blind_baseline'):
      errors.append(f'{path} is set by the sweep itself; use repeats=3')
      continue
    # Sections that a choice of dicts brings may have fields of their own.
    inside = [p for p in before[:-1] if path.startswith(f'{p}.')]
    if inside:
      continue
    try:
      main.find(base, path)
    except UserError as error:
      errors.append(str(error))
  return errors


def _wrong_condition(
  path: str,
  other: str,
  values: Sequence[Any],
  before: Sequence[str],
  space: Mapping[str, Any],
) -> list[str]:
  if other not in before:
    return [
      f'{path}: when({other!r}, ...) names no field that stands before it in '
      'the space'
    ]
  if not isinstance(space[other], space_lib.Choice):
    return []
  return [
    f'{path}: when({other!r}, {value!r}) never holds; that field is tried with '
    f'{", ".join(map(repr, space[other].values))}'
    for value in values
    if value not in space[other].values
  ]


def _trials(
  given: Any, sampler: Mapping[str, Any], space: Mapping[str, Any]
) -> int:
  size = search.grid_size(space) if sampler['name'] == 'grid' else None
  if given is None and size is not None:
    return size
  if not isinstance(given, int) or isinstance(given, bool) or given < 1:
    raise UserError(f'trials={given!r} is not legal: a whole number from 1')
  if size is not None and given > size:
    raise UserError(
      f'trials={given}, but the grid has {size} points; leave trials out'
    )
  return given


def _check_pruner(sweep: Sweep) -> None:
  """Pruning needs evaluations during training, of one metric."""
  train = sweep.base.train
  if not sweep.prunes():
    return
  if len(sweep.metrics) > 1 or sweep.metrics[0] in COSTS:
    raise UserError(
      f'pruner={sweep.pruner["name"]!r} takes one metric, of validation; use '
      "'none'"
    )
  if not 0 < train.eval_every < train.steps and (
    'train.eval_every' not in sweep.space
  ):
    raise UserError(
      f'pruner={sweep.pruner["name"]!r} needs evaluations during training: set '
      f'train.eval_every (now {train.eval_every}) to a part of train.steps='
      f"{train.steps}, for example with set={{'train.eval_every': "
      f'{max(1, train.steps // 10)}}}'
    )
  search.pruner(sweep.pruner, steps=train.steps, every=train.eval_every)


def _set_by(
  base: ml_collections.ConfigDict, overrides: Sequence[tuple[str, str]]
) -> dict[str, Any]:
  """What flags set, as values."""
  out = {}
  for path, _ in overrides:
    section, name, _ = main.find(base, path)
    value = section[name]
    out[path] = (
      json.loads(value.to_json()) if hasattr(value, 'to_json') else value
    )
  return out
