"""Several workers on one machine, each a process with devices of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mmjax.errors import ConfigError

# Number of a process's chips -> their arrangement on the host, for libtpu.
_TPU_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}


def probe() -> tuple[str, int]:
  """This machine's platform, and its number of devices.

  JAX runs in another process, since a process that lists devices holds them.
  """
  code = 'import jax; print(jax.default_backend(), jax.local_device_count())'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  if done.returncode:
    raise ConfigError(f'JAX found no device: {done.stderr.strip()}')
  platform, count = done.stdout.split()[-2:]
  if platform == 'cpu':
    return platform, len(_cores())
  return platform, int(count)


def divide(platform: str, count: int, workers: int, per_trial: int) -> int:
  """Number of devices of each worker.

  Args:
    platform: 'cpu', where a device is a core, 'gpu' or 'tpu'.
    count: devices of the machine.
    workers: number of processes.
    per_trial: devices of each; 0: an equal part.

  Raises:
    ConfigError: if there are not so many.
  """
  kind = {'cpu': 'cores', 'tpu': 'TPU chips'}.get(platform, 'devices')
  each = max(per_trial or count // workers, 1)
  if workers * each > count:
    raise ConfigError(
      f'--workers={workers} with --devices_per_trial={each} need '
      f'{workers * each} {kind}, but this machine has {count}; use fewer'
    )
  if platform == 'tpu' and each not in _TPU_BOUNDS:
    raise ConfigError(
      f'--devices_per_trial={each} is not legal on a TPU host; use one of '
      f'{", ".join(map(str, _TPU_BOUNDS))}'
    )
  return each


def environment(platform: str, worker: int, per_trial: int) -> dict[str, str]:
  """Environment variables that limit one worker to its own devices.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
    worker: the worker's number, from 0.
    per_trial: devices of each worker.

  >>> environment('tpu', 1, 4)['TPU_VISIBLE_CHIPS']
  '4,5,6,7'
  """
  own = range(worker * per_trial, (worker + 1) * per_trial)
  if platform == 'cpu':
    return {'JAX_NUM_CPU_DEVICES': str(per_trial)}
  if platform == 'tpu':
    return {
      'TPU_VISIBLE_CHIPS': ','.join(map(str, own)),
      'TPU_CHIPS_PER_PROCESS_BOUNDS': _TPU_BOUNDS[per_trial],
      'TPU_PROCESS_BOUNDS': '1,1,1',
    }
  # Of those that this process can use, named by number or by UUID. AMD's
  # runtime reads the variable too.
  name = 'CUDA_VISIBLE_DEVICES'
  visible = os.environ.get(name)
  names = visible.split(',') if visible else [str(i) for i in range(own.stop)]
  return {name: ','.join(names[i] for i in own)}


def end_with_input() -> None:
  """Sends this process a SIGTERM when its standard input ends.

  `Workers` has the other end, which closes however its process ends.
  """

  def wait() -> None:
    while os.read(0, 1):
      pass
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=wait, daemon=True, name='input').start()


class Workers:
  """Processes that run `python -m experiments.sweep`; a context.

  Attributes:
    stopped: whether they were asked to stop.
    signal: the number of the signal that stopped them, or 0.

  Args:
    argv: the flags of each.
    workdir: the sweep's folder; their output is in WORKDIR/workers.
    workers: number of processes.
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
    self._argv, self._workers = [*argv, '--ends_with_input'], workers
    self._logs = Path(workdir) / 'workers'
    self._platform, count = probe()
    self._per_trial = divide(self._platform, count, workers, per_trial)
    self._processes: list[subprocess.Popen] = []
    self._files: list = []
    self.stopped, self.signal = False, 0

  def __enter__(self) -> 'Workers':
    self._logs.mkdir(parents=True, exist_ok=True)
    cores = _cores()
    for worker in range(self._workers):
      file = self.log(worker).open('a')
      self._files.append(file)
      process = subprocess.Popen(
        [sys.executable, '-m', 'experiments.sweep', *self._argv],
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=os.environ | self.environment(worker),
        # Ctrl-C reaches this process alone, which passes it on once.
        start_new_session=True,
      )
      self._processes.append(process)
      # Linux alone can bind a process to cores.
      if self._platform == 'cpu' and hasattr(os, 'sched_setaffinity'):
        first = worker * self._per_trial
        own = cores[first : first + self._per_trial]
        os.sched_setaffinity(process.pid, own)
    return self

  def __exit__(self, *_) -> None:
    self._terminate()
    for process in self._processes:
      process.wait()
      process.stdin.close()
    for file in self._files:
      file.close()

  def environment(self, worker: int) -> dict[str, str]:
    """Environment variables that limit a worker to its own devices."""
    return environment(self._platform, worker, self._per_trial)

  def log(self, worker: int) -> Path:
    """The file with a worker's output."""
    return self._logs / f'{worker}.log'

  def stop(self, number: int = 0, frame: object = None) -> None:
    """Has all save and end; a handler of signals, safe to call again."""
    del frame
    if not self.stopped:
      self.stopped, self.signal = True, number
      self._terminate()

  def _terminate(self) -> None:
    for process in self._processes:
      if process.poll() is None:
        process.send_signal(signal.SIGTERM)

  def wait(self) -> list[int]:
    """Waits for all to end; returns their exit codes."""
    return [process.wait() for process in self._processes]


def _cores() -> list[int]:
  """The cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))
