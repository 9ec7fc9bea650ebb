"""What `python -m experiments.NAME` runs: one training run, set up by flags.

--config=FILE.py[:ARGUMENT]   a file with get_config(argument)
--config.SECTION.FIELD=VALUE  sets one field of it
--workdir=DIR                 the run's folder; the same command resumes it
--data_dir=DIR                short for --config.data.data_dir=DIR
--profile_steps=FIRST:LAST    traces these steps, in WORKDIR/profile

Several hosts run the same command. On SLURM, Cloud TPU VMs and GKE they find
each other; elsewhere give each of them:
--coordinator=HOST:PORT       address of process 0
--num_processes=N             number of processes; 1: no other hosts
--process_id=I                this process's number, from 0
"""

import contextlib
import difflib
import functools
import os
import re
import select
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import ml_collections
from absl import app, flags, logging

from mmjax.config import experiment_file, settings
from mmjax.config import overrides as overrides_lib
from mmjax.errors import ConfigError, RunError
from mmjax.runs import workdir


def launch(
  build: Callable[..., Any], run: Callable[..., Any] | None = None
) -> None:
  """Parses flags and trains; an experiment file's last line.

  A refused value of the config, of a flag or of a file ends the process with
  its message and exit code 2. An error of any other kind keeps its traceback.
  A run that Ctrl-C stopped ends with 130, by SIGTERM with 143.

  Args:
    build: (config, mesh) -> `mmjax.training.experiment.Experiment`.
    run: (config, build, workdir) -> results, {} if a signal stopped it before
      its end; by default `mmjax.training.runner.run`. With --profile_steps it
      also gets `profile_steps`, with a config's `init_from` also `flags`, as
      that does.
  """
  if not flags.FLAGS.is_parsed() and 'workdir' not in flags.FLAGS:
    define(flags.FLAGS)
  start(lambda changes: _main(build, changes, run), _print_help)


def define(values: flags.FlagValues) -> None:
  """Defines the flags of a run."""
  kind = lambda function: functools.partial(function, flag_values=values)
  string = kind(flags.DEFINE_string)
  string('config', None, 'config file, or file.py:argument')
  string('profile_steps', None, 'FIRST:LAST, steps to trace')
  define_common(values)


def define_common(values: flags.FlagValues) -> None:
  """Defines the flags that runs and sweeps share."""
  kind = lambda function: functools.partial(function, flag_values=values)
  string, integer = kind(flags.DEFINE_string), kind(flags.DEFINE_integer)
  string('workdir', None, 'folder of the run or sweep')
  string('data_dir', None, 'sets config.data.data_dir')
  string('coordinator', None, 'HOST:PORT of process 0')
  integer('num_processes', None, 'number of processes')
  integer('process_id', None, "this process's number")
  kind(flags.DEFINE_boolean)(
    'keep_memory', True, 'on a CPU, keep memory between steps, in huge pages'
  )


def start(
  main: Callable[[list[tuple[str, str]]], None],
  print_help: Callable[[Sequence[str]], None],
) -> None:
  """Parses the command line and runs a command.

  Args:
    main: gets the overrides `--config.PATH=VALUE` as (path, value); the other
      flags are in `flags.FLAGS`.
    print_help: gets the arguments, one of which asks for help.
  """
  changes: list[tuple[str, str]] = []

  def parse(argv: Sequence[str]) -> list[str]:
    with reporting():
      if set(argv) & {'--help', '-help', '-h', '--helpshort'}:
        print_help(argv)
        sys.exit(0)
      rest, found = overrides_lib.split(argv)
      changes.extend(found)
      try:
        rest = flags.FLAGS(rest)
      except flags.UnrecognizedFlagError as error:
        raise ConfigError(_describe_unknown(error, rest)) from error
      except (flags.Error, ValueError) as error:
        raise ConfigError(_describe_illegal(error)) from error
      if len(rest) > 1:
        raise ConfigError(f'{rest[1]!r} is not a flag; flags begin with --')
      if flags.FLAGS.data_dir is not None:
        changes.append(('data.data_dir', flags.FLAGS.data_dir))
      return rest

  def call(_: Sequence[str]) -> None:
    # At level INFO, Orbax logs every phase of every save.
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    with reporting():
      main(changes)

  app.run(call, flags_parser=parse)


def _describe_illegal(error: Exception) -> str:
  """The message about a flag with a value that it can't have."""
  flag = re.match(r"flag --(\w+)=(.*): \('Non-boolean", str(error))
  if not flag:
    return str(error)
  name, value = flag.groups()
  return f'--{name}={value} is not legal; use --{name} or --no{name}'


def _describe_unknown(
  error: flags.UnrecognizedFlagError, argv: Sequence[str]
) -> str:
  """The message about a flag that does not exist, with what may be meant."""
  name = error.flagname
  message = f'--{name} is not a flag'
  close = difflib.get_close_matches(name, list(flags.FLAGS), n=1, cutoff=0.75)
  files = [a.partition('=')[2] for a in argv if a.startswith('--config=')]
  hint = (
    f'--{close[0]}'
    if close
    else overrides_lib.suggest(name, files[-1] if files else None)
  )
  return f'{message}; did you mean {hint}?' if hint else message


def require(*names: str) -> None:
  """Refuses a command line that leaves out flags.

  Args:
    names: flags that the command needs.

  Raises:
    ConfigError: if one has no value.
  """
  for name in names:
    if not flags.FLAGS[name].value:
      raise ConfigError(f'--{name} is missing; --help describes the flags')


@contextlib.contextmanager
def reporting() -> Iterator[None]:
  """Ends the process with a message and exit code where that is all to say."""
  try:
    yield
  except KeyboardInterrupt:
    _exit(
      'interrupted; the same command resumes from the last checkpoint, or '
      'starts if there is none',
      128 + signal.SIGINT,
    )
  except BrokenPipeError:
    if not _is_closed(sys.stdout):
      raise
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)
  except ConfigError as error:
    _exit(f'error: {error}', 2)
  except RunError as error:
    _exit(f'error: {error}', 1)


def _is_closed(stream: TextIO) -> bool:
  """Whether the reader of a pipe is gone."""
  poll = select.poll()
  poll.register(stream.fileno(), 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def _exit(message: str, code: int) -> None:
  sys.stdout.flush()
  print(message, file=sys.stderr, flush=True)
  sys.exit(code)


def _print_help(argv: Sequence[str]) -> None:
  # Imported here, since models take a second that a mistaken flag needn't.
  from mmjax.config import help as help_lib

  files = [a.partition('=')[2] for a in argv if a.startswith('--config=')]
  config = None
  if files:
    config = overrides_lib.load(files[-1])
    changes = overrides_lib.split(argv)[1]
    overrides_lib.override(config, changes)
    name_experiment(config)
    if config.init_from:
      config = _resolve_init_from(config, [path for path, _ in changes])
  usage = __doc__.partition('\n\n')[2]
  doc = sys.modules['__main__'].__doc__ or ''
  print(help_lib.text(doc, usage, config))


def _resolve_init_from(
  config: ml_collections.ConfigDict, flags: Sequence[str]
) -> ml_collections.ConfigDict:
  """The config that a run would have, for --help; nothing is downloaded."""
  from mmjax.runs import init_entries, init_from

  if not init_entries.is_local(config):
    print(
      f'init_from={config.init_from!r} sets the model, and settings of `data`, '
      "when a run starts; below are the config's own\n"
    )
    return config
  return init_from.resolve(config, flags)


def _main(
  build: Callable[..., Any],
  changes: Sequence[tuple[str, str]],
  run: Callable[..., Any] | None,
) -> None:
  values = flags.FLAGS
  require('config', 'workdir')
  options: dict[str, Any] = {}
  if values.profile_steps is not None:
    options['profile_steps'] = _parse_steps(values.profile_steps)
  workdir.check(values.workdir)
  config = overrides_lib.load(values.config)
  overrides_lib.override(config, changes)
  if config.init_from:
    options['flags'] = [path for path, _ in changes]
  name_experiment(config)
  settings.validate(config)
  _check_experiment(config)
  # Imported after the config is checked, so that it is refused at once.
  from mmjax.parallel import hosts
  from mmjax.training import allocator, loop, runner

  if values.keep_memory:
    allocator.keep_memory()  # Before JAX starts its threads.
  hosts.connect(values.coordinator, values.num_processes, values.process_id)
  alike = ConfigError, loop.NonFiniteError
  with hosts.exit_on_error(*alike):
    results = (run or runner.run)(config, build, values.workdir, **options)
  if not results:
    # Ctrl-C stopped it, when all is saved; SIGTERM raises its own code.
    sys.exit(128 + signal.SIGINT)


def _parse_steps(text: str) -> range:
  """Parses the first and the last of some steps.

  >>> _parse_steps('10:15')
  range(10, 16)

  Raises:
    ConfigError: if it is something else.
  """
  first, _, last = text.partition(':')
  if first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last):
    return range(int(first), int(last) + 1)
  raise ConfigError(
    f'--profile_steps={text} is not legal; give the first and the last step to '
    'trace, counted from 1, as in --profile_steps=10:15'
  )


def name_experiment(config: ml_collections.ConfigDict) -> None:
  """Names the file that was started in a config that names no experiment.

  So the run can be opened again where its experiment defines what mmjax lacks.
  """
  main = sys.modules['__main__']
  if config.experiment or not hasattr(main, 'build'):
    return
  config.experiment = experiment_file.name_of(main)


def _check_experiment(config: ml_collections.ConfigDict) -> None:
  """Refuses a config that another experiment file was written for."""
  name, main = config.experiment, sys.modules['__main__']
  if main.__spec__ is None:
    _check_script(name, main)
    return
  started = main.__spec__.name.rpartition('.')[2]
  wanted = name.removesuffix('.py').replace('/', '.')
  if wanted.rpartition('.')[2] not in ('', started):
    if name.endswith('.py'):
      command = f'python {name}'
    else:
      command = f'python -m {name if "." in name else f"experiments.{name}"}'
    raise ConfigError(
      f'experiment={name!r}: this config is for another experiment; start it '
      f'with {command}'
    )


def _check_script(name: str, main: types.ModuleType) -> None:
  """Refuses a file, started by its path, that is not the config's experiment.

  The run would be opened again with the experiment of its config.
  """
  if not name or not hasattr(main, 'build'):
    return
  started = Path(main.__file__).resolve()
  wanted = experiment_file.locate(name)
  stem = name.removesuffix('.py').replace('.', '/').rpartition('/')[2]
  if (stem if wanted is None else wanted) not in (started.stem, started):
    raise ConfigError(
      f'experiment={name!r}: this config is for another experiment than '
      f'{started}; start that one, or add --config.experiment='
      f'{os.path.relpath(started)}'
    )
