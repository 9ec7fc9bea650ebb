"""Several workers on one machine, each a process with devices of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mmjax.errors import ConfigError

# Chips of one host that form a process's part, as libtpu wants to be told.
_TPU_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}


def probe() -> tuple[str, int]:
  """This machine's kind of device, and how many; asked in another process.

  A process that has asked JAX for devices holds them.
  """
  code = 'import jax; print(jax.default_backend(), jax.local_device_count())'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  if done.returncode:
    raise ConfigError(f'JAX finds no device: {done.stderr.strip()}')
  platform, count = done.stdout.split()[-2:]
  if platform == 'cpu':
    return platform, len(_cores())
  return platform, int(count)


def share(platform: str, count: int, workers: int, per_trial: int) -> list[int]:
  """How many devices each worker has.

  Args:
    platform: 'cpu', where a device is a core, 'gpu' or 'tpu'.
    count: devices of the machine.
    workers: processes.
    per_trial: devices of each; 0: an equal part.

  Raises:
    ConfigError: if there are not so many.
  """
  kind = {'cpu': 'cores', 'tpu': 'TPU chips'}.get(platform, 'devices')
  per_trial = per_trial or count // workers
  if per_trial < 1 or workers * per_trial > count:
    raise ConfigError(
      f'--workers={workers} with --devices_per_trial={max(per_trial, 1)} need '
      f'{workers * max(per_trial, 1)} {kind}, and there are {count}; ask '
      'for fewer'
    )
  if platform == 'tpu' and per_trial not in _TPU_BOUNDS:
    raise ConfigError(
      f'--devices_per_trial={per_trial}: a part of a TPU host has '
      f'{", ".join(map(str, _TPU_BOUNDS))} chips'
    )
  return [per_trial] * workers


def environment(platform: str, worker: int, per_trial: int) -> dict[str, str]:
  """Variables that leave one worker its own devices.

  Args:
    platform: of the devices.
    worker: number of the worker, from 0.
    per_trial: devices that each worker has.

  >>> environment('tpu', 1, 4)['TPU_VISIBLE_CHIPS']
  '4,5,6,7'
  """
  mine = range(worker * per_trial, (worker + 1) * per_trial)
  if platform == 'cpu':
    return {'JAX_NUM_CPU_DEVICES': str(per_trial)}
  if platform == 'tpu':
    return {
      'TPU_VISIBLE_CHIPS': ','.join(map(str, mine)),
      'TPU_CHIPS_PER_PROCESS_BOUNDS': _TPU_BOUNDS[per_trial],
      'TPU_PROCESS_BOUNDS': '1,1,1',
    }
  # Those that this process may see, be they named by number or by UUID. AMD's
  # runtime heeds it too.
  name = 'CUDA_VISIBLE_DEVICES'
  seen = os.environ.get(name)
  devices = seen.split(',') if seen else [str(i) for i in range(1 + mine[-1])]
  return {name: ','.join(devices[i] for i in mine)}


def end_with_input() -> None:
  """Has this process stop, as after a SIGTERM, when its standard input ends.

  `Workers` holds the other end, which closes however its process ends.
  """

  def wait() -> None:
    while os.read(0, 1):
      pass
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=wait, daemon=True, name='input').start()


class Workers:
  """Processes that run `python -m experiments.sweep`; a context.

  Attributes:
    stopped: whether they were asked to leave.
    signal: the number of the signal that asked, or 0.

  Args:
    argv: the flags of each.
    workdir: the sweep's folder; what they print goes to WORKDIR/workers.
    workers: how many.
    per_trial: devices of each; 0: an equal part.

  Raises:
    ConfigError: if there are not enough devices.
  """

  def __init__(
    self,
    argv: Sequence[str],
    workdir: Path | str,
    *,
    workers: int,
    per_trial: int,
  ):
    self._argv = [*argv, '--ends_with_input']
    self._logs = Path(workdir) / 'workers'
    self._platform, count = probe()
    self._shares = share(self._platform, count, workers, per_trial)
    self._processes: list[subprocess.Popen] = []
    self._files: list = []
    self.stopped, self.signal = False, 0

  def __enter__(self) -> 'Workers':
    self._logs.mkdir(parents=True, exist_ok=True)
    cores = _cores()
    for worker, per_trial in enumerate(self._shares):
      file = self.log(worker).open('a')
      self._files.append(file)
      process = subprocess.Popen(
        [sys.executable, '-m', 'experiments.sweep', *self._argv],
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=os.environ | self.environment(worker),
        # Ctrl-C is for this process alone, which hands it on once.
        start_new_session=True,
      )
      self._processes.append(process)
      # Linux alone can bind a process to cores.
      if self._platform == 'cpu' and hasattr(os, 'sched_setaffinity'):
        first = worker * per_trial
        os.sched_setaffinity(process.pid, cores[first : first + per_trial])
    return self

  def __exit__(self, *_) -> None:
    self._ask()
    for process in self._processes:
      process.wait()
      process.stdin.close()
    for file in self._files:
      file.close()

  def environment(self, worker: int) -> dict[str, str]:
    """Variables that leave a worker its own devices."""
    return environment(self._platform, worker, self._shares[worker])

  def log(self, worker: int) -> Path:
    """Where a worker's output goes."""
    return self._logs / f'{worker}.log'

  def stop(self, number: int = 0, frame: object = None) -> None:
    """Asks all to save and leave; safe to call again, and from a signal."""
    del frame
    if self.stopped:
      return
    self.stopped, self.signal = True, number
    self._ask()

  def _ask(self) -> None:
    for process in self._processes:
      if process.poll() is None:
        process.send_signal(signal.SIGTERM)

  def wait(self) -> list[int]:
    """Until all have ended; their exit codes."""
    return [process.wait() for process in self._processes]


def _cores() -> list[int]:
  """Those that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))
