"""What `python -m experiments.sweep` runs.

--sweep=FILE.py          a file with get_sweep()
--workdir=DIR            the sweep's folder; the same command resumes it
--workers=K              processes on this machine
--devices_per_trial=N    devices (cores of a CPU) of each; an equal part if 0
--storage=WHERE          journal or sqlite: a file in DIR; or a database's URL
--grace=SECONDS          time without a heartbeat after which a worker on
                         another machine is dead
--retry_failed           run failed trials again, with the same values
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
import functools
import os
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
from mmjax.sweeps import check, lease, local, status, storage, worker
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import loop, main, startup, training


def launch(build_of: check.BuildOf = experiment_file.find) -> None:
  """Parses flags and runs a sweep; the last line of `experiments/sweep.py`.

  Args:
    build_of: name of an experiment -> its `build`.
  """
  _define(flags.FLAGS)
  main.start(lambda changes: _main(changes, build_of), _print_help)


def _define(values: flags.FlagValues) -> None:
  kind = lambda function: functools.partial(function, flag_values=values)
  string, integer = kind(flags.DEFINE_string), kind(flags.DEFINE_integer)
  number, boolean = kind(flags.DEFINE_float), kind(flags.DEFINE_bool)
  main.define_common(values)
  string('sweep', None, 'file with get_sweep()')
  integer('workers', 1, 'processes on this machine', 1)
  integer('devices_per_trial', 0, 'devices of each; 0: equal parts', 0)
  string('storage', 'journal', 'journal, sqlite or a URL')
  number('grace', lease.GRACE, 'seconds without a heartbeat', 1.0)
  boolean('retry_failed', False, 'run failed trials again')
  boolean('check', False, 'check the sweep, run nothing')
  # As `local.Workers` starts them.
  boolean('ends_with_input', False, 'stop when the input ends')


def _print_help(_: Sequence[str]) -> None:
  print(sys.modules['__main__'].__doc__ or '', __doc__, sep='\n')


def _main(changes: Sequence[tuple[str, str]], build_of: check.BuildOf) -> None:
  values = flags.FLAGS
  if values.ends_with_input:
    local.end_with_input()
  names = ('sweep',) if values.check else ('sweep', 'workdir')
  main.require(*names, usage=__doc__)
  if values.workdir:
    workdir.check(values.workdir)
  many = values.workers > 1 or values.devices_per_trial > 0
  if many:
    _refuse_hosts(values)
  sweep = sweep_lib.load(values.sweep, changes)
  if values.check:
    check.check(sweep, build_of)
    print(f'{values.sweep}: {sweep.trials} trials, no errors')
  elif many:
    done = _run_many(sweep, values, _argv(values, changes))
    sys.exit(0 if done else 1)
  else:
    hosts.connect(values.coordinator, values.num_processes, values.process_id)
    with hosts.exit_on_error(ConfigError, worker.TrialsFailedError):
      done = _run_here(sweep, values, build_of)
    if not done:  # Ctrl-C; SIGTERM raises its own code.
      _stopped(signal.SIGINT)


def _refuse_hosts(values: Any) -> None:
  """A worker among several of one machine has no other hosts."""
  names = 'coordinator', 'num_processes', 'process_id'
  used = [name for name in names if values[name].value is not None]
  if used and not (used == ['num_processes'] and values.num_processes == 1):
    raise ConfigError(
      f'{", ".join(f"--{name}" for name in used)} are for a trial on several '
      'hosts, but --workers and --devices_per_trial start processes of one '
      'machine, each with a trial of its own; leave out one or the other'
    )


def _stopped(number: int) -> None:
  """Ends this process as one that a signal stopped, when all is saved."""
  if hosts.is_first():
    print('stopped before the end; the same command resumes the sweep')
  sys.exit(128 + number)


def _run_here(
  sweep: sweep_lib.Sweep, values: Any, build_of: check.BuildOf
) -> bool:
  """Runs this process as a worker, or as one host of a worker."""
  startup.use_compilation_cache()
  study = None
  with hosts.raise_together():
    checked = hosts.is_first() and _exists(values)
    if checked:
      study = _open(sweep, values)
  checked = hosts.from_first(checked)
  with hosts.raise_together():
    if checked:
      # Its values were, but not what depends on this machine: data, devices.
      check.build(sweep.config({}), build_of)
    else:
      check.check(sweep, build_of)
  with hosts.raise_together():
    if hosts.is_first():
      study = study or _open(sweep, values)

  def train(config: Any, workdir: Path, report: training.Report):
    build = build_of(config.experiment)
    return loop.run(config, build, workdir, report=report)

  printing = contextlib.nullcontext() if study is None else _printing(study)
  with printing:
    return worker.work(sweep, study, values.workdir, train)


def _run_many(sweep: sweep_lib.Sweep, values: Any, argv: Sequence[str]) -> bool:
  """Starts workers as processes, and prints the status while they run."""
  workers = local.Workers(
    argv,
    values.workdir,
    workers=values.workers,
    per_trial=values.devices_per_trial,
  )
  if not _exists(values):
    # In another process, since this one must not hold any device.
    command = [sys.executable, '-m', 'experiments.sweep', *argv, '--check']
    done = subprocess.run(
      command,
      stdout=subprocess.DEVNULL,
      env=os.environ | workers.environment(0),  # As the trials will have it.
    )
    if done.returncode:
      sys.exit(done.returncode)
  study = _open(sweep, values)
  with workers, _printing(study):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) != signal.SIG_IGN:  # As nohup sets it.
        signal.signal(number, workers.stop)
    codes = workers.wait()
  done = study.done()
  for i, code in enumerate(codes):
    if code and not (workers.stopped or done):
      print(f'worker {i} ended with {code}; see {workers.log(i)}')
  if done and (problem := worker.problem(study, values.workdir)):
    raise worker.TrialsFailedError(problem)
  if not done and workers.signal:
    # 143 is the code by which schedulers know to start it again.
    hung_up = workers.signal == signal.SIGHUP
    _stopped(signal.SIGTERM if hung_up else workers.signal)
  return done


def _printing(study: study_lib.Study) -> status.StatusPrinter:
  return status.StatusPrinter(study.optuna, living=study.living)


def _argv(values: Any, overrides: Sequence[tuple[str, str]]) -> list[str]:
  """The flags of one of several workers, which has no other hosts."""
  names = ('sweep', 'workdir', 'storage', 'grace')
  return [
    *(f'--{name}={values[name].value}' for name in names),
    *(f'--config.{path}={text}' for path, text in overrides),
    '--num_processes=1',
  ]


def _exists(values: Any) -> bool:
  """Whether the sweep has a study, so that its values were checked."""
  opened = storage.open_storage(values.storage, values.workdir)
  return study_lib.exists(opened, storage.study_name(values.workdir))


def _open(sweep: sweep_lib.Sweep, values: Any) -> study_lib.Study:
  study = study_lib.Study(
    sweep,
    storage.open_storage(values.storage, values.workdir),
    storage.study_name(values.workdir),
    grace=values.grace,
  )
  if values.retry_failed:
    study.retry_failed()
  return study
