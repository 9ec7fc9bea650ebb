"""The fields of a sweep file, and the errors in their values.

Functions return errors, a line each, so that a file's are shown together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from mmjax.config import fields as fields_lib
from mmjax.config import overrides as overrides_lib
from mmjax.config import schema, settings
from mmjax.errors import ConfigError
from mmjax.sweeps import search
from mmjax.sweeps import space as space_lib

DIRECTIONS = ('maximize', 'minimize')
# Metrics that are not of the evaluation: what a run costs.
COSTS = ('step_time', 'train_seconds')
FIELDS = {
  'config': 'a config file, or file.py:argument',
  'metric': "such as 'val/retrieval/mean_r1'; several: a tuple",
  'direction': "'maximize' or 'minimize'; several: a tuple",
  'space': "dict of 'section.field' -> choice(...), loguniform(...), ...",
  'trials': 'number of points',
  'sampler': ', '.join(search.SAMPLERS),
  'pruner': ', '.join(search.PRUNERS),
  'seed': 'of the search',
  'repeats': 'runs of each point, with different seeds',
  'set': 'dict of config field -> its value in all trials',
}
_REQUIRED = ('config', 'metric', 'direction', 'space')
_NUMBERS = {
  'trials': fields_lib.Field('int', None, '', minimum=1, optional=True),
  'seed': fields_lib.Field('int', 0, '', minimum=0),
  'repeats': fields_lib.Field('int', 1, '', minimum=1),
}


def collect(errors: list[str], function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function; a `ConfigError` of it is appended to `errors`."""
  try:
    return function(*args)
  except ConfigError as error:
    errors += str(error).splitlines()
    return None


def as_tuple(value: Any) -> tuple[Any, ...]:
  """A value, or several of them, as a tuple."""
  return tuple(value) if isinstance(value, tuple | list) else (value,)


def field_errors(fields: Mapping[str, Any]) -> Iterator[str]:
  """Fields that are unknown, missing, or of the wrong type."""
  for name in fields:
    if name not in FIELDS:
      message = settings.unknown(str(name), FIELDS)
      yield message.replace('config field', 'field of a sweep')
  for name in _REQUIRED:
    if name not in fields:
      yield f'{name} is missing: {FIELDS[name]}'
  for name in ('space', 'set'):
    yield from _path_errors(name, fields.get(name, {}))
  for name, field in _NUMBERS.items():
    if name in fields and not field.accepts(fields[name]):
      yield f'{name}={fields[name]!r} is not legal: {field.describe()}'
  if 'metric' in fields and 'direction' in fields:
    metrics, directions = map(as_tuple, (fields['metric'], fields['direction']))
    yield from _metric_errors(metrics, directions)


def _path_errors(name: str, fields: Any) -> Iterator[str]:
  """What is wrong with the keys of `space` or `set`."""
  if not isinstance(fields, dict):
    yield f'{name}={fields!r} is not legal: {FIELDS[name]}'
    return
  for path in fields:
    if not isinstance(path, str):
      yield f"{name}: {path!r} is not legal: a string such as 'optimizer.lr'"
    elif path in schema.SECTIONS:
      field = next(iter(schema.SECTIONS[path]))
      yield f"{name}: {path} is a section; name its fields: '{path}.{field}'"


def _metric_errors(
  metrics: Sequence[Any], directions: Sequence[Any]
) -> Iterator[str]:
  for name in metrics:
    if name not in COSTS and not str(name).startswith('val/'):
      yield (
        f"metric={name!r} is not legal: a metric of validation, 'val/...', or "
        f'one of {", ".join(COSTS)}; tests are for the run that was chosen'
      )
  for name in directions:
    if name not in DIRECTIONS:
      yield f'direction={name!r} is not legal: one of {", ".join(DIRECTIONS)}'
  if not metrics or len(metrics) != len(directions):
    yield (
      f'there are {len(metrics)} metrics and {len(directions)} directions; '
      'give at least one metric, and a direction for each'
    )


def space_errors(
  space: Mapping[str, Any], base: ml_collections.ConfigDict
) -> list[str]:
  """Unknown fields, and conditions that never hold."""
  errors = [] if space else ['space is empty; name at least one config field']
  before: dict[str, space_lib.Dimension] = {}
  for path, dimension in space.items():
    if not isinstance(dimension, space_lib.Dimension):
      errors.append(
        f'{path}: {dimension!r} is not a range; use one of '
        f'{", ".join(space_lib.NAMES)}'
      )
      continue
    errors += _condition_errors(path, dimension, before)
    # Sections that a choice of dicts brings may have fields of their own.
    nested = any(path.startswith(f'{other}.') for other in before)
    before[path] = dimension
    if path == 'seed' or path.startswith('train.blind_baseline'):
      errors.append(f'{path} is set by the sweep itself; use repeats=3')
    elif not nested:
      collect(errors, overrides_lib.find, base, path)
  return errors


def _condition_errors(
  path: str,
  dimension: space_lib.Dimension,
  before: Mapping[str, space_lib.Dimension],
) -> list[str]:
  errors = []
  for other, values in dimension.conditions:
    if other not in before:
      errors.append(
        f'{path}: when({other!r}, ...): that is not a field named before it in '
        'the space'
      )
    else:
      errors += [
        f'{path}: when({other!r}, {value!r}) never holds; that field is tried '
        f'with {before[other]}'
        for value in values
        if not before[other].has(value)
      ]
  space = {**before, path: dimension}
  if not errors and not space_lib.combinations(space, path):
    errors.append(
      f'{path}: its conditions never hold together; name all values of a field '
      'in one when(...)'
    )
  return errors


def base_errors(
  base: ml_collections.ConfigDict, metrics: Sequence[str]
) -> list[str]:
  """Values that the config refuses, and missing validation."""
  errors: list[str] = []
  collect(errors, settings.validate, base)
  if not base.data.eval_split and set(metrics) - set(COSTS):
    errors.append(
      "data.eval_split is '', so there are no metrics of validation to choose "
      'by; name a split'
    )
  return errors


def num_trials(
  value: int | None,
  sampler: Mapping[str, Any],
  space: Mapping[str, space_lib.Dimension],
) -> int:
  """The number of trials; by default a grid's points.

  Raises:
    ConfigError: if it is missing, or a grid has fewer points.
  """
  size = search.grid_size(space) if sampler['name'] == 'grid' else None
  if value is None and size is None:
    raise ConfigError(f'trials is missing: {FIELDS["trials"]}')
  if value is not None and size is not None and value > size:
    raise ConfigError(
      f'trials={value}, but the grid has {size} points; leave trials out'
    )
  return size if value is None else value


def pruner_errors(
  pruner: Mapping[str, Any],
  metrics: Sequence[str],
  space: Mapping[str, Any],
  train: ml_collections.ConfigDict,
) -> list[str]:
  """Pruning needs evaluations during training, of one metric.

  Args:
    pruner: its name and options.
    metrics: the sweep's.
    space: the sweep's.
    train: the base config's section.
  """
  name, steps, every = pruner['name'], train.steps, train.eval_every
  if name == 'none':
    return []
  if len(metrics) > 1 or metrics[0] in COSTS:
    return [f"pruner={name!r} takes one metric, of validation; use 'none'"]
  if {'train.steps', 'train.eval_every'} & set(space):
    return []
  if not 0 < every < steps:
    return [
      f'pruner={name!r} needs evaluations during training: set '
      f'train.eval_every (now {every}) to a part of train.steps={steps}, for '
      f"example with set={{'train.eval_every': {max(1, steps // 10)}}}"
    ]
  return search.pruner_errors(pruner, steps=steps, every=every)
