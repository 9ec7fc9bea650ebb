"""Several workers on one machine, each a process with devices of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmjax.errors import ConfigError

# Arguments of Python that start one worker, in a clone or elsewhere.
COMMAND = ('-m', 'mmjax.cli.main', 'sweep')


def probe() -> tuple[str, int]:
  """This machine's platform, and its number of devices; of a CPU, its cores.

  JAX runs in another process, since a process that lists devices holds them.

  Raises:
    ConfigError: if JAX finds none.
  """
  code = 'import jax; print(jax.default_backend(), jax.local_device_count())'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  if done.returncode:
    raise ConfigError(f'JAX found no device: {done.stderr.strip()}')
  platform, count = done.stdout.split()[-2:]
  return platform, len(_cores()) if platform == 'cpu' else int(count)


def divide(platform: str, count: int, workers: int) -> list[list[int]]:
  """The devices of each worker, in equal parts.

  Args:
    platform: 'cpu', where a device is a core, 'gpu' or 'tpu'.
    count: number of devices of the machine.
    workers: number of processes.

  Raises:
    ConfigError: if there are too few, or they are TPU chips.
  """
  if platform == 'tpu':
    raise ConfigError(
      f"--workers={workers}: one process uses all of a machine's TPU chips; "
      'leave the flag out, and start a worker on each machine or slice'
    )
  each = count // workers
  if not each:
    raise ConfigError(
      f'--workers={workers}: each needs a device, or a core of a CPU, and this '
      f'machine has {count}; start fewer'
    )
  return [list(range(i * each, (i + 1) * each)) for i in range(workers)]


def environment(platform: str, devices: Sequence[int]) -> dict[str, str]:
  """Environment variables that limit a process to some devices.

  Args:
    platform: 'cpu' or 'gpu'.
    devices: numbers of this machine's devices.

  >>> environment('cpu', [2, 3])
  {'JAX_NUM_CPU_DEVICES': '2'}
  """
  if platform == 'cpu':
    return {'JAX_NUM_CPU_DEVICES': str(len(devices))}
  # Of those that this process can use, named by number or by UUID. AMD's
  # runtime reads the variable too.
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  names = visible.split(',') if visible else range(devices[-1] + 1)
  return {'CUDA_VISIBLE_DEVICES': ','.join(str(names[i]) for i in devices)}


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
  """Processes that run `mmjax sweep`; a context.

  While it is entered, Ctrl-C, SIGTERM and a lost terminal make all of them save
  and end.

  Attributes:
    environments: environment of each, with its devices.
    logs: file with the output of each, in WORKDIR/workers.
    signal: the number of the signal that stopped them, or 0.

  Args:
    argv: the flags of each.
    workdir: the sweep's folder.
    workers: number of processes.

  Raises:
    ConfigError: as `divide` does.
  """

  def __init__(self, argv: Sequence[str], workdir: Path | str, workers: int):
    self._command = [sys.executable, *COMMAND, *argv]
    self._platform, count = probe()
    self._devices = divide(self._platform, count, workers)
    own = [environment(self._platform, devices) for devices in self._devices]
    self.environments = [os.environ | variables for variables in own]
    folder = Path(workdir) / 'workers'
    self.logs = [folder / f'{i}.log' for i in range(workers)]
    self.signal = 0
    self._processes: list[subprocess.Popen] = []

  def __enter__(self) -> 'Workers':
    self.logs[0].parent.mkdir(parents=True, exist_ok=True)
    for log, environ, devices in zip(
      self.logs, self.environments, self._devices, strict=True
    ):
      with log.open('a') as file:
        process = subprocess.Popen(
          [*self._command, '--ends_with_input'],
          stdin=subprocess.PIPE,
          stdout=file,
          stderr=subprocess.STDOUT,
          env=environ,
          # Ctrl-C reaches this process alone, which passes it on once.
          start_new_session=True,
        )
      self._processes.append(process)
      # Linux alone can bind a process to cores.
      if self._platform == 'cpu' and hasattr(os, 'sched_setaffinity'):
        cores = _cores()
        os.sched_setaffinity(process.pid, [cores[i] for i in devices])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) != signal.SIG_IGN:  # As nohup sets it.
        signal.signal(number, self._stop)
    return self

  def __exit__(self, *_) -> None:
    self._terminate()
    for process in self._processes:
      process.wait()
      process.stdin.close()

  def wait(self, update: Callable[[], None], every: float = 2.0) -> list[int]:
    """Waits for all to end.

    Args:
      update: called while they run.
      every: seconds between two calls.

    Returns:
      Their exit codes.
    """
    while any(process.poll() is None for process in self._processes):
      update()
      time.sleep(every)
    return [process.returncode for process in self._processes]

  def _stop(self, number: int, _: object) -> None:
    self.signal = self.signal or number
    self._terminate()

  def _terminate(self) -> None:
    for process in self._processes:
      process.terminate()


def _cores() -> list[int]:
  """The cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))
