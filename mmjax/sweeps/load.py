"""Reads a sweep file, and refuses errors in it before the first trial."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import optuna

from mmjax.config import fields, overrides, settings, user_file
from mmjax.errors import ConfigError
from mmjax.sweeps import search
from mmjax.sweeps import space as space_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.training import experiment, runner

Field = fields.Field
FIELDS = {
  'config': Field('str', None, 'a config file, or file.py:argument'),
  'metric': Field('str', None, "such as 'val/retrieval/mean_r1'"),
  'direction': Field(
    'str', None, 'maximize or minimize', choices=('maximize', 'minimize')
  ),
  'space': Field('dict', None, "'section.field' -> choice(...), uniform(...)"),
  'set': Field('dict', {}, "'section.field' -> its value in all trials"),
  'trials': Field('int', None, 'number of points', minimum=1, optional=True),
  'sampler': Field('plain', 'tpe', ', '.join(search.KINDS['sampler'])),
  'pruner': Field('plain', 'none', ', '.join(search.KINDS['pruner'])),
  'seed': Field('int', 0, 'seed of the search', minimum=0),
}
_REQUIRED = ('config', 'metric', 'direction', 'space')
# Name of an experiment -> its `build`.
BuildOf = Callable[[str], experiment.Build]


def load(
  file: Path | str, flags: Sequence[tuple[str, str]] = ()
) -> sweep_lib.Sweep:
  """Reads a sweep file and the config that it names.

  Args:
    file: Python with a function `get_sweep`, which can use the names of
      `space.NAMES` without an import.
    flags: (path, text) of config fields set by flags, in all trials.

  Raises:
    ConfigError: naming all errors that can be found together.
  """
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  fields_in_file = _read(file)
  values = {name: f.default for name, f in FIELDS.items()} | fields_in_file
  values['config'] = str(values['config'])  # It may be a path.
  raise_all(file, _field_errors(fields_in_file, values))
  in_file = overrides.load(values['config'])
  base = copy.deepcopy(in_file)
  errors = [
    f'set: {error}'
    for path, value in values.pop('set').items()
    for error in _refused(sweep_lib.assign, base, path, space_lib.plain(value))
  ]
  raise_all(file, errors)
  overrides.override(base, flags)
  for what in search.KINDS:
    values[what] = search.named(what, values[what])
  sweep = sweep_lib.Sweep(str(file), in_file, base, **values)
  raise_all(
    file,
    [
      *_refused(settings.validate, base),
      *_metric_errors(sweep),
      *_space_errors(sweep.space, base),
    ],
  )
  raise_all(file, [*search.sampler_errors(sweep), *search.pruner_errors(sweep)])
  trials = sweep.trials or search.grid_size(sweep)
  return dataclasses.replace(sweep, trials=trials)


def check(sweep: sweep_lib.Sweep, build_of: BuildOf) -> None:
  """Builds the ends of every range, few whole numbers and all choices.

  Everything is built as a run would build it, shapes included, but nothing is
  computed. A field with a condition is built with all values that this names;
  otherwise fields vary one by one. Two values that are legal each may still be
  refused together; such a trial fails, and its log says why.

  Args:
    sweep: what `load` returns.
    build_of: name of an experiment -> its `build`.

  Raises:
    ConfigError: naming every value that the config or its experiment refuses.
  """
  try:
    build(sweep, {}, build_of)
  except ConfigError as error:
    raise_all(sweep.file, [f'without the space: {error}'])
  errors: list[str] = []
  refused = []
  for path, dimension in sweep.space.items():
    for value in dimension.probes():
      for others in space_lib.combinations(sweep.space, path):
        if any(item in refused for item in others.items()):
          continue  # That is among the errors.
        try:
          build(sweep, others | {path: value}, build_of)
        except (ConfigError, TypeError) as error:
          refused.append((path, value))
          where = ''.join(f' with {p}={v!r}' for p, v in others.items())
          kind = 'TypeError: ' if isinstance(error, TypeError) else ''
          errors.append(f'{path}={value!r}{where}: {kind}{error}')
  raise_all(sweep.file, errors)


def build(
  sweep: sweep_lib.Sweep, values: Mapping[str, Any], build_of: BuildOf
) -> None:
  """Builds one trial's config; raises ConfigError if it is refused."""
  config = sweep_lib.vary(sweep.base, values)
  runner.check(config, build_of(config.experiment), tuple(sweep.space))


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


def _field_errors(
  in_file: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[str]:
  """Fields that are unknown, missing, or of the wrong type."""
  for name, value in values.items():
    if name not in FIELDS:
      message = settings.unknown(str(name), FIELDS)
      yield message.replace('config field', 'field of a sweep')
    elif name not in in_file and name in _REQUIRED:
      yield f'{name} is missing: {FIELDS[name].meaning}'
    elif name in ('space', 'set'):  # Their values are checked later.
      if not isinstance(value, dict):
        yield f'{name}={value!r} is not legal: a dict, {FIELDS[name].meaning}'
    elif not FIELDS[name].accepts(value):
      yield f'{name}={value!r} is not legal: {FIELDS[name].describe()}'
    elif name in search.KINDS:
      yield from _refused(search.named, name, value)


def _metric_errors(sweep: sweep_lib.Sweep) -> Iterator[str]:
  """Why a trial can't have the metric."""
  name = sweep.metric
  if not name.startswith('val/'):
    yield (
      f"metric={name!r} is not legal: a metric of validation, 'val/...'; tests "
      'are for the run that was chosen'
    )
  elif not sweep.base.data.eval_split:
    yield f"metric={name!r} needs data.eval_split, which is ''; name a split"


def _space_errors(
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
          f'tried with {before[other].text}'
        )
    if path == 'train.blind_baseline':
      yield f'{path} is False in all trials; leave it out'
    # Sections that a choice of dicts brings may have fields of their own.
    elif not any(str(path).startswith(f'{name}.') for name in before):
      yield from _refused(sweep_lib.find, base, path)
    before[path] = dimension


def _refused(function: Callable[..., Any], *args: Any) -> Iterator[str]:
  """Calls a function; yields the lines of a `ConfigError` that it raises."""
  try:
    function(*args)
  except ConfigError as error:
    yield from str(error).splitlines()
