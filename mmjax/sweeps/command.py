"""What `python -m experiments.sweep` runs.

--sweep=FILE.py          a file with get_sweep()
--workdir=DIR            the sweep's folder; the same command goes on with it
--workers=K              processes on this machine
--devices_per_trial=N    devices (cores of a CPU) of each; an equal part if 0
--storage=WHERE          journal or sqlite: a file in DIR; or a database's URL
--grace=SECONDS          without a sign of life, after which a worker on another
                         machine counts as dead
--retry_failed           try again what failed, with the same values
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.runs import workdir
from mmjax.sweeps import broadcast, claims, local, storage, table, worker
from mmjax.sweeps import study as study_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import experiment, loop, main, startup, training

BuildOf = Callable[[str], experiment.Build]


def launch(build_of: BuildOf = experiment.find) -> None:
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
  integer('devices_per_trial', 0, 'of each; 0: equal parts', 0)
  string('storage', 'journal', 'journal, sqlite or a URL')
  number('grace', claims.GRACE, 'seconds without a heartbeat', 1.0)
  boolean('retry_failed', False, 'try again what failed')
  boolean('check', False, 'check the sweep, run nothing')
  # As `local.Workers` starts them.
  boolean('ends_with_input', False, 'stop when the input ends')


def _print_help(_: Sequence[str]) -> None:
  print(sys.modules['__main__'].__doc__ or '', __doc__, sep='\n')


def _main(changes: Sequence[tuple[str, str]], build_of: BuildOf) -> None:
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
    sweep_lib.check(sweep, build_of)
    print(f'{values.sweep}: {sweep.trials} trials, nothing to object')
  elif many:
    done = _run_many(sweep, values, _argv(values, changes))
    sys.exit(0 if done else 1)
  else:
    hosts.connect(values.coordinator, values.num_processes, values.process_id)
    with hosts.exit_on_error(ConfigError, worker.TrialsFail):
      done = _run_here(sweep, values, build_of)
    if not done:  # Ctrl-C; SIGTERM raises its own code.
      _stopped(signal.SIGINT)


def _refuse_hosts(values: Any) -> None:
  """A worker among several of a machine has no other hosts."""
  names = 'coordinator', 'num_processes', 'process_id'
  given = [name for name in names if values[name].value is not None]
  if given and not (given == ['num_processes'] and values.num_processes == 1):
    raise ConfigError(
      f'{", ".join(f"--{name}" for name in given)}: for a trial of several '
      'hosts, but --workers and --devices_per_trial start processes of one '
      'machine, each with a trial of its own; leave out the ones or the others'
    )


def _stopped(number: int) -> None:
  """Ends this process as one that a signal stopped, when all is saved."""
  if broadcast.is_first():
    print('stopped before the end; the same command resumes the sweep')
  sys.exit(128 + number)


def _run_here(sweep: sweep_lib.Sweep, values: Any, build_of: BuildOf) -> bool:
  """This process is a worker, or one host of one."""
  startup.use_compilation_cache()
  first, study = broadcast.is_first(), None
  with hosts.raise_together():
    begun = first and _begun(values)
    if begun:
      study = _open(sweep, values)
  begun = broadcast.from_first(begun)
  with hosts.raise_together():
    if begun:
      # Its values were checked, but not what is this machine's: data, devices.
      build = build_of(sweep.base.experiment)
      loop.check(sweep.config({}), build)
    else:
      sweep_lib.check(sweep, build_of)
  with hosts.raise_together():
    if first:
      study = study or _open(sweep, values)
      study.queue(retry_failed=values.retry_failed)

  def train(config: Any, workdir: Path, report: training.Report):
    build = build_of(config.experiment)
    return loop.run(config, build, workdir, report=report)

  shown = contextlib.nullcontext() if study is None else _table(study)
  with shown:
    return worker.work(sweep, study, values.workdir, train)


def _table(study: study_lib.Study) -> table.Table:
  return table.Table(study.whole, living=study.living)


def _argv(values: Any, overrides: Sequence[tuple[str, str]]) -> list[str]:
  """The flags of one of several workers; it stays alone, wherever it runs."""
  names = ('sweep', 'workdir', 'storage', 'grace')
  return [
    *(f'--{name}={values[name].value}' for name in names),
    *(f'--config.{path}={text}' for path, text in overrides),
    '--num_processes=1',
  ]


def _run_many(sweep: sweep_lib.Sweep, values: Any, argv: Sequence[str]) -> bool:
  """Starts workers as processes, and shows the study while they run."""
  workers = local.Workers(
    argv,
    values.workdir,
    workers=values.workers,
    per_trial=values.devices_per_trial,
  )
  if not _begun(values):
    # In another process, since this one must not hold any device.
    check = [sys.executable, '-m', 'experiments.sweep', *argv, '--check']
    done = subprocess.run(
      check,
      stdout=subprocess.DEVNULL,
      env=os.environ | workers.environment(0),  # As the trials will have it.
    )
    if done.returncode:
      sys.exit(done.returncode)
  study = _open(sweep, values)
  study.queue(retry_failed=values.retry_failed)
  with workers, _table(study):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) != signal.SIG_IGN:  # As nohup has it.
        signal.signal(number, workers.stop)
    codes = workers.wait()
  for i, code in enumerate(codes):
    if code and not (workers.stopped or study.done()):
      print(f'worker {i} ended with {code}; see {workers.log(i)}')
  if not study.done():
    if workers.signal:
      # 143 is the code by which schedulers know to start it again.
      hung_up = workers.signal == signal.SIGHUP
      _stopped(signal.SIGTERM if hung_up else workers.signal)
    return False
  lacks = worker.lacks(study, values.workdir)
  if lacks:
    raise worker.TrialsFail(lacks)
  return True


def _begun(values: Any) -> bool:
  """Whether the sweep has a study, so that it was checked."""
  opened = storage.open_storage(values.storage, values.workdir)
  return study_lib.begun(opened, storage.study_name(values.workdir))


def _open(sweep: sweep_lib.Sweep, values: Any) -> study_lib.Study:
  return study_lib.Study(
    sweep,
    storage.open_storage(values.storage, values.workdir),
    storage.study_name(values.workdir),
    grace=values.grace,
  )
