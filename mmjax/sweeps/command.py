"""What `mmjax sweep` runs, and `python -m experiments.sweep` in a clone.

--sweep=FILE.py          a file with get_sweep()
--workdir=DIR            the sweep's folder; the same command resumes it
--workers=K              processes on this machine, which share its devices
--storage=WHERE          journal: a file in DIR; or a database's URL
--check                  check the sweep, run nothing
--config.SECTION.FIELD=VALUE  sets one field of the config, in all trials
--data_dir=DIR           short for --config.data.data_dir=DIR

A trial may be one of several hosts: all run the same command, find each other
as those of a run do, and are one worker together.
--coordinator=HOST:PORT  of process 0
--num_processes=N        of all hosts together; 1: alone, wherever it runs
--process_id=I           from 0
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mmjax.config import experiment_file
from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.runs import workdir
from mmjax.sweeps import load, local, status, storage, worker
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.training import allocator, loop, main, runner, startup

# Flags that each worker on this machine gets.
_OF_WORKERS = ('sweep', 'workdir', 'storage', 'keep_memory')


def launch(build_of: load.BuildOf = experiment_file.find) -> None:
  """Parses flags and runs a sweep; the last line of `experiments/sweep.py`.

  Args:
    build_of: name of an experiment -> its `build`.
  """
  define(flags.FLAGS)
  main.start(lambda changes: _main(changes, build_of), _print_help)


def define(values: flags.FlagValues) -> None:
  """Defines the flags of a sweep."""
  main.define_common(values)
  own = {'flag_values': values}
  flags.DEFINE_string('sweep', None, 'file with get_sweep()', **own)
  flags.DEFINE_integer('workers', 1, 'processes on this machine', 1, **own)
  flags.DEFINE_string('storage', 'journal', 'journal or a URL', **own)
  flags.DEFINE_bool('check', False, 'check the sweep, run nothing', **own)
  # As `local.Workers` starts them.
  flags.DEFINE_bool('ends_with_input', False, 'stop when the input ends', **own)


def _print_help(_: Sequence[str]) -> None:
  print(__doc__)


def _main(changes: Sequence[tuple[str, str]], build_of: load.BuildOf) -> None:
  values = flags.FLAGS
  if values.ends_with_input:
    local.end_with_input()
  names = ('sweep',) if values.check else ('sweep', 'workdir')
  main.require(*names)
  if values.workdir:
    workdir.check(values.workdir)
  sweep = load.load(values.sweep, changes)
  if values.check:
    load.check(sweep, build_of)
    print(f'{values.sweep}: {sweep.trials} trials, no errors')
  elif values.workers > 1:
    _run_many(sweep, values, changes)
  else:
    if values.keep_memory:
      allocator.keep_memory()  # Before JAX starts its threads.
    hosts.connect(values.coordinator, values.num_processes, values.process_id)
    with hosts.exit_on_error(ConfigError, worker.TrialsFailedError):
      done = _run_here(sweep, values, build_of)
    if not done:  # Ctrl-C; SIGTERM raises its own code.
      _stopped(signal.SIGINT)


def _stopped(number: int) -> None:
  """Ends this process as one that a signal stopped, when all is saved."""
  if hosts.is_first():
    print('stopped before the end; the same command resumes the sweep')
  # 143 is the code by which schedulers know to start it again.
  sys.exit(130 if number == signal.SIGINT else 143)


def _run_here(
  sweep: sweep_lib.Sweep, values: Any, build_of: load.BuildOf
) -> bool:
  """Runs this process as a worker, or as one host of a worker."""
  startup.use_compilation_cache()
  with hosts.raise_together():
    checked = hosts.is_first() and _exists(values)
  checked = hosts.from_first(checked)
  study = None
  with hosts.raise_together():
    if checked:
      # Its values were, but not what depends on this machine: data, devices.
      load.build(sweep, {}, build_of)
    else:
      load.check(sweep, build_of)
    if hosts.is_first():
      study = study_lib.Study(sweep, values.storage, values.workdir)

  def train(config: Any, folder: Path, should_stop: loop.ShouldStop):
    build = build_of(config.experiment)
    return runner.run(
      config, build, folder, should_stop=should_stop, flags=tuple(sweep.space)
    )

  show = status.StatusPrinter(study.optuna).update if study else None
  done = worker.work(sweep, study, values.workdir, train, show)
  with hosts.raise_together():
    if done and study is not None:
      worker.check_complete(study, values.workdir)
  return done


def _run_many(
  sweep: sweep_lib.Sweep, values: Any, changes: Sequence[tuple[str, str]]
) -> None:
  """Starts workers as processes, and prints the status while they run."""
  if values.coordinator or values.process_id is not None:
    raise ConfigError(
      '--coordinator and --process_id are for a trial on several hosts, but '
      f'--workers={values.workers} starts processes of one machine, each with '
      'a trial of its own; leave out one or the other'
    )
  argv = [
    *(f'--{n}={values[n].value}' for n in _OF_WORKERS),
    *(f'--config.{path}={text}' for path, text in changes),
    '--num_processes=1',
  ]
  workers = local.Workers(argv, values.workdir, values.workers)
  if not _exists(values):
    # In another process, since this one must not hold any device.
    done = subprocess.run(
      [sys.executable, *local.COMMAND, *argv, '--check'],
      stdout=subprocess.DEVNULL,
      env=workers.environments[0],
    )
    if done.returncode:
      sys.exit(done.returncode)
  study = study_lib.Study(sweep, values.storage, values.workdir)
  printer = status.StatusPrinter(study.optuna)
  with workers:
    codes = workers.wait(printer.update)
  printer.update()
  if study.done():
    worker.check_complete(study, values.workdir)
  elif workers.signal:
    _stopped(workers.signal)
  else:
    for i, (code, log) in enumerate(zip(codes, workers.logs, strict=True)):
      print(f'worker {i} ended with {code}; see {log}')
    sys.exit(1)


def _exists(values: Any) -> bool:
  """Whether the sweep has a study, so that its values were checked."""
  with contextlib.suppress(ConfigError):
    study = storage.load_study(values.storage, values.workdir)
    return 'sweep' in study.user_attrs
  return False
