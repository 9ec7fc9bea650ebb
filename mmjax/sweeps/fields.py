"""The fields of a sweep file, and the errors in their values.

Functions yield errors, a line each, so that a file's are shown together.
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

Field = fields_lib.Field
DIRECTIONS = ('maximize', 'minimize')
# Metrics that are not of the evaluation: what a run costs.
COSTS = ('step_time', 'train_seconds')
FIELDS = {
  'config': Field('str', None, 'a config file, or file.py:argument'),
  'metric': Field('strings', None, "such as 'val/retrieval/mean_r1'"),
  'direction': Field('strings', None, ' or '.join(DIRECTIONS)),
  'space': Field('dict', None, "'section.field' -> choice(...), uniform(...)"),
  'set': Field('dict', {}, "'section.field' -> its value in all trials"),
  'trials': Field('int', None, 'number of points', minimum=1, optional=True),
  'sampler': Field('plain', 'tpe', ', '.join(search.KINDS['sampler'])),
  'pruner': Field('plain', 'none', ', '.join(search.KINDS['pruner'])),
  'seed': Field('int', 0, 'seed of the search', minimum=0),
  'repeats': Field('int', 1, 'runs of each point', minimum=1),
}
_REQUIRED = ('config', 'metric', 'direction', 'space')


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
  """A sweep file's fields with the defaults of those that it leaves out."""
  out = {name: field.default for name, field in FIELDS.items()} | dict(values)
  out['config'] = str(out['config'])  # It may be a path.
  for name in ('metric', 'direction'):
    if not isinstance(out[name], tuple | list):
      out[name] = (out[name],)
  return out


def refused(function: Callable[..., Any], *args: Any) -> Iterator[str]:
  """Calls a function; yields the lines of a `ConfigError` that it raises."""
  try:
    function(*args)
  except ConfigError as error:
    yield from str(error).splitlines()


def assign(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  """Sets a field of a completed config.

  Raises:
    ConfigError: if there is no such field, it is a section of the schema, or
      another section is set to something else than a dict.
  """
  section, name, field = _find(config, path)
  if field.kind == 'dict' and not field.accepts(value):
    raise ConfigError(f'{path}={value!r} is not legal: {field.describe()}')
  with config.unlocked():
    if name in section:
      del section[name]  # Another type may be legal here.
    section[name] = value


def errors(values: Mapping[str, Any]) -> Iterator[str]:
  """Fields that are unknown, missing, or of the wrong type."""
  for name in values:
    if name not in FIELDS:
      message = settings.unknown(str(name), FIELDS)
      yield message.replace('config field', 'field of a sweep')
  for name, value in complete(values).items():
    if name not in values and name in _REQUIRED:
      yield f'{name} is missing: {FIELDS[name].meaning}'
    elif name in ('space', 'set'):  # Their values are checked later.
      if not isinstance(value, dict):
        yield f'{name}={value!r} is not legal: a dict, {FIELDS[name].meaning}'
    elif name in FIELDS and not FIELDS[name].accepts(value):
      yield f'{name}={value!r} is not legal: {FIELDS[name].describe()}'
    elif name in search.KINDS:
      yield from refused(search.named, name, value)


def goal_errors(
  metrics: Sequence[str], directions: Sequence[str], eval_split: str
) -> Iterator[str]:
  """Metrics that a trial does not have, and directions that are not legal."""
  for name in metrics:
    if name not in COSTS and not name.startswith('val/'):
      yield (
        f"metric={name!r} is not legal: a metric of validation, 'val/...', or "
        f'one of {", ".join(COSTS)}; tests are for the run that was chosen'
      )
    elif name not in COSTS and not eval_split:
      yield f"metric={name!r} needs data.eval_split, which is ''; name a split"
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
) -> Iterator[str]:
  """Unknown fields, and conditions that never hold."""
  if not space:
    yield 'space is empty; name at least one config field'
  before: dict[str, space_lib.Dimension] = {}
  for path, dimension in space.items():
    if not isinstance(dimension, space_lib.Dimension):
      ranges = ', '.join(space_lib.NAMES)
      yield f'{path}: {dimension!r} is not a range; use one of {ranges}'
      continue
    other, values = dimension.condition or (None, ())
    if other is not None and other not in before:
      yield f'{path}: when({other!r}, ...) is not a field named before it'
    for value in values if other in before else ():
      if not before[other].has(value):
        yield (
          f'{path}: when({other!r}, {value!r}) never holds; that field is '
          f'tried with {before[other]}'
        )
    if path == 'seed' or path == 'train.blind_baseline':
      yield f'{path} is set by the sweep itself; use repeats=3'
    # Sections that a choice of dicts brings may have fields of their own.
    elif not any(str(path).startswith(f'{name}.') for name in before):
      yield from refused(_find, base, path)
    before[path] = dimension


def trials_errors(
  trials: int | None,
  sampler: Mapping[str, Any],
  space: Mapping[str, space_lib.Dimension],
) -> Iterator[str]:
  """A number of trials that is missing, or more than a grid has points."""
  if sampler['name'] == 'grid':
    size = search.grid_size(space)
    if trials is not None and trials > size:
      yield f'trials={trials}, but the grid has {size} points; leave trials out'
  elif trials is None:
    yield f'trials is missing: {FIELDS["trials"].meaning}'


def pruner_errors(
  pruner: Mapping[str, Any],
  metrics: Sequence[str],
  space: Mapping[str, Any],
  train: ml_collections.ConfigDict,
) -> Iterator[str]:
  """Pruning needs evaluations during training, of one metric.

  Args:
    pruner: its name and options.
    metrics: the sweep's.
    space: the sweep's.
    train: the base config's section.
  """
  name, steps, every = pruner['name'], train.steps, train.eval_every
  if name == 'none':
    return
  if len(metrics) > 1 or metrics[0] in COSTS:
    yield f"pruner={name!r} takes one metric, of validation; use 'none'"
  elif {'train.steps', 'train.eval_every'} & set(space):
    return  # It depends on the trial.
  elif not 0 < every < steps:
    yield (
      f'pruner={name!r} needs evaluations during training: set '
      f'train.eval_every (now {every}) to a part of train.steps={steps}, for '
      f"example with set={{'train.eval_every': {max(1, steps // 10)}}}"
    )
  else:
    yield from search.pruner_errors(pruner, steps=steps, every=every)


def _find(config: ml_collections.ConfigDict, path: str) -> tuple[Any, str, Any]:
  """As `overrides.find`; refuses a section of the schema."""
  if path in schema.SECTIONS:
    field = next(iter(schema.SECTIONS[path]))
    raise ConfigError(
      f"{path} is a section; name its fields, such as '{path}.{field}'"
    )
  return overrides_lib.find(config, str(path))
