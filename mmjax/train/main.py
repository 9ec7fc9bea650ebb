"""What `python -m experiments.NAME` runs: flags in, one training run out.

--config=FILE.py[:ARGUMENT]   a file with get_config(argument)
--config.SECTION.FIELD=VALUE  sets one field of it
--workdir=DIR                 the run's folder; the same command resumes it
--data_dir=DIR                short for --config.data.data_dir=DIR
--traceback                   shows where an error came from

Several hosts run the same command. On SLURM, Cloud TPU VMs and GKE they find
each other; elsewhere tell them:
--coordinator=HOST:PORT       of process 0
--num_processes=N             of all hosts together; 1: alone, wherever it runs
--process_id=I                from 0
"""

import dataclasses
import functools
import inspect
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
from absl import app, flags, logging

from mmjax.train import flag_values, schema, settings, user_file, workdir
from mmjax.train.settings import UserError

_OVERRIDE = re.compile(r'--?(no)?config\.([^=]+)(?:=(.*))?', re.DOTALL)


def launch(
  build: Callable[..., Any], run: Callable[..., Any] | None = None
) -> None:
  """Parses flags and trains; an experiment file's last line.

  A mistake of the user's (config, data, flags) is reported in one message,
  without a traceback, and ends with exit code 2; --traceback shows where it
  came from. A run that Ctrl-C stopped ends with 130, by SIGTERM with 143.

  Args:
    build: config -> `mmjax.train.experiment.Experiment`.
    run: (config, build, workdir) -> results, {} if a signal stopped it before
      its end; by default `mmjax.train.loop.run`.
  """
  if not flags.FLAGS.is_parsed() and 'workdir' not in flags.FLAGS:
    _define(flags.FLAGS)
  overrides: list[tuple[str, str]] = []

  def parse(argv: Sequence[str]) -> list[str]:
    if set(argv) & {'--help', '-help', '-h', '--helpshort'}:
      files = [a.partition('=')[2] for a in argv if a.startswith('--config=')]
      try:
        config = load(files[-1]) if files else None
        print(help_text(sys.modules['__main__'].__doc__ or '', config))
      except ValueError as error:
        fail(error)
      sys.exit(0)
    rest, found = split_overrides(argv)
    overrides.extend(found)
    try:
      return flags.FLAGS(rest)
    except flags.Error as error:
      fail(error)

  app.run(lambda argv: _main(argv, build, overrides, run), flags_parser=parse)


def _define(values: flags.FlagValues) -> None:
  define = lambda kind: functools.partial(kind, flag_values=values)
  string, integer = define(flags.DEFINE_string), define(flags.DEFINE_integer)
  string('config', None, 'config file, or file.py:argument')
  string('workdir', None, "the run's folder")
  string('data_dir', None, 'sets config.data.data_dir')
  define(flags.DEFINE_bool)('traceback', False, 'show where an error came from')
  string('coordinator', None, 'HOST:PORT of process 0')
  integer('num_processes', None, 'of all hosts together')
  integer('process_id', None, 'which of them this is')


def _main(
  argv: Sequence[str],
  build: Callable[[Any], Any],
  overrides: list[tuple[str, str]],
  run: Callable[..., Any] | None,
) -> None:
  values = flags.FLAGS
  # Orbax tells every phase of every save at level INFO.
  if not values['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  try:
    if len(argv) > 1:
      raise UserError(f'{argv[1]!r} is no flag; they begin with --')
    for name in ('config', 'workdir'):
      if not values[name].value:
        raise UserError(f'--{name} is missing\n{__doc__}')
    workdir.check(values.workdir)
    config = load(values.config)
    if values.data_dir is not None:
      overrides = [*overrides, ('data.data_dir', values.data_dir)]
    override(config, overrides)
    settings.validate(config)
    _check_experiment(config)
    # After the config, whose mistakes are then told at once.
    from mmjax.parallel import hosts
    from mmjax.train import disk, loop

    try:
      hosts.connect(values.coordinator, values.num_processes, values.process_id)
    except ValueError as error:
      raise UserError(str(error)) from error
    alike = UserError, loop.NonFiniteError
    with hosts.ending_together(*alike, told=(disk.FullError,)):
      results = (run or loop.run)(config, build, values.workdir)
    if not results:
      # Ctrl-C stopped it, when all is saved; SIGTERM raises its own code.
      sys.exit(128 + signal.SIGINT)
  except KeyboardInterrupt:
    interrupted()
  except UserError as error:
    fail(error, show=values.traceback)
  except loop_errors() as error:
    fail(error, show=values.traceback, code=1)


def _check_experiment(config: ml_collections.ConfigDict) -> None:
  """Refuses a config that another experiment file was written for."""
  spec = sys.modules['__main__'].__spec__
  started = spec.name.rpartition('.')[2] if spec else ''
  if started and config.experiment not in ('', started):
    raise UserError(
      f'experiment={config.experiment!r}: this config is for another '
      f'experiment; start it with python -m experiments.{config.experiment}'
    )


def loop_errors() -> tuple[type[Exception], ...]:
  """Ends of a run that are no bug of the program's."""
  module = sys.modules.get('mmjax.train.loop')
  if module is None:
    return ()
  return module.NonFiniteError, module.disk.FullError


def fail(error: Exception, show: bool = False, code: int = 2) -> None:
  """Tells an error in one message and ends the process.

  Args:
    error: what to tell.
    show: whether to show where it came from.
    code: the exit code.
  """
  if show:
    traceback.print_exception(error)
  sys.stdout.flush()
  print(f'error: {error}', file=sys.stderr, flush=True)
  sys.exit(code)


def interrupted() -> None:
  """Ends a process whose Ctrl-C came outside a run, or was its second one.

  With exit code 130, as shells give to a process that SIGINT ended.
  """
  sys.stdout.flush()
  print(
    'interrupted; the same command resumes from the last checkpoint, or starts '
    'if there is none',
    file=sys.stderr,
    flush=True,
  )
  sys.exit(128 + signal.SIGINT)


def help_text(
  experiment: str, config: ml_collections.ConfigDict | None = None
) -> str:
  """What --help shows: the experiment, the flags, every config field.

  Args:
    experiment: its docstring.
    config: one whose own values are shown too, and the defaults that it leaves
      to the model, its parts and the objectives.
  """
  fields = {'': schema.TOP, **schema.SECTIONS}
  lines = [experiment.strip(), '', 'Flags:', __doc__.partition('\n\n')[2]]
  lines.append('Config fields, their defaults and meanings:')
  for section, of_section in fields.items():
    lines.append('')
    for name, field in of_section.items():
      path = f'{section}.{name}' if section else name
      choices = f' ({" | ".join(field.choices)})' if field.choices else ''
      lines.append(f'  {path}={field.default!r}  {field.meaning}{choices}')
  if config is not None:
    lines += ['', 'Values of this config:', '']
    lines += [
      f'  {path}={config[path]!r}'
      for path in _paths(config)
      if not isinstance(config[path], ml_collections.ConfigDict)
    ]
    lines += ['', 'What its model and objectives have besides:', '']
    lines += [f'  {path}={default!r}' for path, default in _unset(config)]
  return '\n'.join(lines)


def _unset(config: ml_collections.ConfigDict) -> Iterator[tuple[str, Any]]:
  """Settings that a model, its parts and objectives could be given, by path."""
  # Only here: mistakes in flags should be told at once.
  from mmjax import models, objectives

  there = set(_paths(config))
  for part in ('model', *(f'model.{part}' for part in models.PARTS)):
    section = config[part] if part in there else None
    if not section or 'name' not in section:
      continue
    for name, default in models.settings_of(section.name).items():
      if name not in section and default is not dataclasses.MISSING:
        yield f'{part}.{name}', default
  for objective, section in config.objectives.items():
    cls = objectives.OBJECTIVES.get(objective)
    if cls is None:
      continue
    known = inspect.signature(cls).parameters
    defaults = {name: known[name].default for name in known} | {'weight': 1.0}
    for name in sorted(defaults.keys() - {*section}):
      yield f'objectives.{objective}.{name}', defaults[name]


def split_overrides(
  argv: Sequence[str],
) -> tuple[list[str], list[tuple[str, str]]]:
  """Parts `--config.a.b=value` from the other arguments.

  As in ml_collections: the value may also be the next argument, and
  `--config.a`, `--noconfig.a` are true and false.

  >>> split_overrides(['x', '--config=c.py', '--config.train.steps=3'])
  (['x', '--config=c.py'], [('train.steps', '3')])
  """
  rest, found, i = [], [], 0
  while i < len(argv):
    match = _OVERRIDE.fullmatch(argv[i])
    i += 1
    if argv[i - 1] == '--':
      return rest + list(argv[i - 1 :]), found
    if match is None:
      rest.append(argv[i - 1])
      continue
    no, path, value = match.groups()
    if no:
      value = 'false'
    elif value is None and i < len(argv) and not re.match('--?[a-z]', argv[i]):
      value, i = argv[i], i + 1
    found.append((path, 'true' if value is None else value))
  return rest, found


def load(location: str) -> ml_collections.ConfigDict:
  """Runs `get_config` of a config file and fills in the defaults.

  Args:
    location: 'FILE.py', or 'FILE.py:ARGUMENT' where get_config takes one.

  Raises:
    UserError: if there is no such file, or its get_config can't be called so.
  """
  file, has_argument, argument = location.partition(':')
  get_config = user_file.function(file, 'get_config', flag='config')
  if has_argument and not inspect.signature(get_config).parameters:
    raise UserError(
      f'--config={location}: its get_config takes no argument; leave out '
      f'":{argument}"'
    )
  try:
    with user_file.mistakes_told(file, 'config', but=ValueError):
      config = get_config(argument) if has_argument else get_config()
  except ValueError as error:
    raise UserError(f'--config={location}: {error}') from error
  return settings.complete(config)


def override(
  config: ml_collections.ConfigDict, overrides: Sequence[tuple[str, str]]
) -> None:
  """Sets fields of a completed config by their dotted paths.

  A value is read by the type that the field has: `--config.train.steps=300`,
  `--config.optimizer.freeze="('image/',)"` (also `image/,text/`). Sections
  `model` and `objectives` may be given fields that the file leaves out; the
  experiment's `build` refuses those it doesn't know.

  Raises:
    UserError: if there is no such field, or the value is not of its type.
  """
  with config.unlocked():
    for path, text in overrides:
      _override(config, path, text)


def _override(config: ml_collections.ConfigDict, path: str, text: str) -> None:
  section, name, field = find(config, path)
  value = flag_values.read(text, field)
  if not field.accepts(value):
    raise UserError(
      f'--config.{path}={text} is not legal: {path} is {field.describe()}'
    )
  if name in section:
    del section[name]  # Another type is legal here, say None for a number.
  section[name] = value


def find(
  config: ml_collections.ConfigDict, path: str
) -> tuple[ml_collections.ConfigDict, str, schema.Field]:
  """The section that holds a field, the field's name there, and its kind.

  Args:
    config: a completed config.
    path: dotted, such as 'model.image.width'.

  Raises:
    UserError: if there is no such field.
  """
  *parents, name = path.split('.')
  section = config
  for parent in parents:
    child = section.get(parent) if hasattr(section, 'get') else None
    if not isinstance(child, ml_collections.ConfigDict):
      raise UserError(settings.unknown(path, _paths(config)))
    section = child
  open_section = parents and parents[0] in schema.OPEN_SECTIONS
  if name not in section and not open_section:
    raise UserError(settings.unknown(path, _paths(config)))
  if len(parents) == 1:
    field = schema.SECTIONS.get(parents[0], {}).get(name)
  else:
    field = None if parents else schema.TOP.get(name)
  return section, name, _like(section.get(name)) if field is None else field


def _paths(config: ml_collections.ConfigDict, prefix: str = '') -> list[str]:
  out = []
  for name, value in config.items():
    out.append(prefix + name)
    if isinstance(value, ml_collections.ConfigDict):
      out += _paths(value, f'{prefix}{name}.')
  return out


def _like(value: Any) -> schema.Field:
  """The field that a value in an open section stands for.

  Whether a number must be whole, the model or objective says: a config may
  write 1 where 0.5 is as legal.
  """
  kinds = {bool: 'bool', int: 'number', float: 'float', str: 'str'}
  kind = kinds.get(type(value), 'plain')
  if isinstance(value, ml_collections.ConfigDict):
    kind = 'dict'
  return schema.Field(kind, value, '', optional=True)
