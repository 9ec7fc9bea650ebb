"""What a sweep file may say: its mistakes in words, a line each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mmjax.config import overrides, schema, settings
from mmjax.errors import ConfigError
from mmjax.sweeps import search
from mmjax.sweeps import space as space_lib

DIRECTIONS = ('maximize', 'minimize')
# What a run's own results tell besides its evaluation.
COSTS = ('step_time', 'train_seconds')
FIELDS = {
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


def collected(
  errors: list[str], function: Callable[..., Any], *args: Any
) -> Any:
  """What a function gives; a `ConfigError` of it goes into `errors` instead."""
  try:
    return function(*args)
  except ConfigError as error:
    errors += str(error).splitlines()
    return None


def wrong_fields(given: Mapping[str, Any]) -> Iterator[str]:
  """Fields that there aren't, that are missing, or of the wrong type."""
  for name in given:
    if name not in FIELDS:
      yield settings.unknown(str(name), FIELDS).replace(
        'config field', 'field of a sweep'
      )
  for name in ('config', 'metric', 'direction', 'space'):
    if name not in given:
      yield f'{name} is missing: {FIELDS[name]}'
  if not isinstance(given.get('config', ''), str | Path):
    yield f'config={given["config"]!r} is not legal: {FIELDS["config"]}'
  for name in ('space', 'set'):
    fields = given.get(name, {})
    if not isinstance(fields, dict):
      yield (
        f'{name}={fields!r} is not legal: a dict, config field -> '
        + ('value' if name == 'set' else 'choice(...), loguniform(...), ...')
      )
      continue
    for path in fields:
      if not isinstance(path, str):
        yield (
          f'{name}: {path!r} is no config field; they are strings such as '
          "'optimizer.lr'"
        )
      elif path in schema.SECTIONS:
        yield (
          f'{name}: {path} is a section; name its fields, such as '
          f"'{path}.{next(iter(schema.SECTIONS[path]))}'"
        )
  for name, low in (('seed', 0), ('repeats', 1)):
    value = given.get(name, low)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
      yield f'{name}={value!r} is not legal: a whole number from {low}'
  yield from _wrong_metrics(given)


def _wrong_metrics(given: Mapping[str, Any]) -> Iterator[str]:
  if 'metric' not in given or 'direction' not in given:
    return
  metrics, directions = several(given['metric']), several(given['direction'])
  if not metrics:
    yield f'metric={given["metric"]!r} names none: {FIELDS["metric"]}'
  for name in metrics:
    if name not in COSTS and not str(name).startswith('val/'):
      yield (
        f"metric={name!r} is not legal: a metric of validation, 'val/...', or "
        f'one of {", ".join(COSTS)}; tests are for the run that was chosen'
      )
  for direction in directions:
    if direction not in DIRECTIONS:
      yield (
        f'direction={direction!r} is not legal: one of {", ".join(DIRECTIONS)}'
      )
  if len(metrics) != len(directions):
    yield (
      f'there are {len(metrics)} metrics and {len(directions)} directions; '
      'give one direction for each metric'
    )


def several(value: Any) -> tuple[Any, ...]:
  """A value, or several of them, as a tuple."""
  return tuple(value) if isinstance(value, tuple | list) else (value,)


def wrong_space(
  space: Mapping[str, Any], base: ml_collections.ConfigDict
) -> list[str]:
  """Fields that aren't there, and what they can't be tried with."""
  errors = [] if space else ['space is empty; name at least one config field']
  before: dict[str, space_lib.Dimension] = {}
  for path, dimension in space.items():
    if not isinstance(dimension, space_lib.Dimension):
      errors.append(
        f'{path}: {dimension!r} is no range; use one of '
        f'{", ".join(space_lib.NAMES)}'
      )
      continue
    errors += [f'{path}: {mistake}' for mistake in dimension.wrong()]
    errors += _wrong_conditions(path, dimension, before)
    # Sections that a choice of dicts brings may have fields of their own.
    inside = any(path.startswith(f'{other}.') for other in before)
    before[path] = dimension
    if path == 'seed' or path.startswith('train.blind_baseline'):
      errors.append(f'{path} is set by the sweep itself; use repeats=3')
    elif not inside:
      collected(errors, overrides.find, base, path)
  return errors


def _wrong_conditions(
  path: str,
  dimension: space_lib.Dimension,
  before: Mapping[str, space_lib.Dimension],
) -> list[str]:
  errors = []
  for other, values in dimension.conditions:
    if other not in before:
      errors.append(
        f'{path}: when({other!r}, ...) names no field that stands before it in '
        'the space'
      )
    elif not values:
      errors.append(
        f'{path}: when({other!r}) names no value; give at least one'
      )
    elif not before[other].wrong():
      errors += [
        f'{path}: when({other!r}, {value!r}) never holds; that field is tried '
        f'with {before[other]}'
        for value in values
        if not before[other].has(value)
      ]
  if not errors and not space_lib.needed({**before, path: dimension}, path):
    errors.append(
      f'{path}: its conditions never hold together; name all values of a field '
      'in one when(...)'
    )
  return errors


def wrong_base(
  base: ml_collections.ConfigDict, metrics: Sequence[str]
) -> list[str]:
  """Values that the config can't have, or trials can't be judged with."""
  errors: list[str] = []
  collected(errors, settings.validate, base)
  if not base.data.eval_split and set(metrics) - set(COSTS):
    errors.append(
      "data.eval_split is '', so there are no metrics of validation to choose "
      'by; name a split'
    )
  return errors


def trials(
  given: Any,
  sampler: Mapping[str, Any],
  space: Mapping[str, space_lib.Dimension],
) -> int:
  """How many trials there shall be.

  Raises:
    ConfigError: if that is no number, or there are not so many points.
  """
  size = search.grid_size(space) if sampler['name'] == 'grid' else None
  if given is None and size is not None:
    return size
  if given is None:
    raise ConfigError(f'trials is missing: {FIELDS["trials"]}')
  if not isinstance(given, int) or isinstance(given, bool) or given < 1:
    raise ConfigError(f'trials={given!r} is not legal: a whole number from 1')
  if size is not None and given > size:
    raise ConfigError(
      f'trials={given}, but the grid has {size} points; leave trials out'
    )
  return given


def wrong_pruner(
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
    train: the base's section.
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
  errors: list[str] = []
  collected(errors, lambda: search.pruner(pruner, steps=steps, every=every))
  return errors or search.wrong_halving(pruner, steps=steps, every=every)
