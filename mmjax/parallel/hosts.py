"""Runs on many hosts: joins them, agrees on errors, detects lost ones."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax import errors
from mmjax.errors import ConfigError, RunError

# Seconds without a sign of life after which a host counts as dead.
HEARTBEAT = 30
# Seconds that hosts wait for each other at the start and at the end.
START, END = 300, 60
# Seconds until what one host did to a file must be visible to all.
NEW_FILE = 30


def connect(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes of all hosts; to be called before JAX is used.

  On SLURM (under srun), Open MPI, Cloud TPU VMs and GKE, JAX finds the others
  by itself. Elsewhere every process gets the same `coordinator` and
  `num_processes` and its own `process_id`. It does nothing for a single process
  and if the processes have joined already.

  Args:
    coordinator: 'HOST:PORT' of process 0, with a port that is free there.
    num_processes: number of processes on all hosts together; with 1, a process
      runs by itself, also on a cluster.
    process_id: number of this process, 0 to num_processes - 1.

  Raises:
    ConfigError: if only some of the three are set, or they don't fit together.
    RuntimeError: if the others don't answer.
  """
  arguments = coordinator, num_processes, process_id
  single = arguments == (None, 1, None)
  if single or jax.distributed.is_initialized():
    return
  _check_flags(*arguments)
  message, on_cluster = None, coordinator is None
  if not on_cluster:
    message = _ExitMessage()
    message.set(
      f'error: the {num_processes} processes did not find each other within '
      f'{START} seconds; start all of them, with the same '
      f'--coordinator={coordinator}, which every host must reach'
    )
  try:
    jax.distributed.initialize(
      *arguments,
      initialization_timeout=START,
      heartbeat_timeout_seconds=HEARTBEAT,
      shutdown_timeout_seconds=END,
    )
  except ValueError as error:
    # JAX raises this if it detects no cluster.
    if not (on_cluster and 'coordinator_address' in str(error)):
      raise
    return
  if jax.process_count() > 1:
    message = message or _ExitMessage()
    message.set(_lost_message())
  elif message:
    message.set('')


def _check_flags(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Raises ConfigError if not all are set or none, or they don't fit."""
  flags = {
    '--coordinator': coordinator,
    '--num_processes': num_processes,
    '--process_id': process_id,
  }
  missing = [name for name, value in flags.items() if value is None]
  if len(missing) == len(flags):
    return
  if missing:
    raise ConfigError(
      f'{", ".join(missing)} missing: several processes need all of '
      f'{", ".join(flags)}, or none on a cluster that JAX knows'
    )
  if not 0 <= process_id < num_processes:
    raise ConfigError(
      f'--process_id={process_id} is out of range; use 0 to '
      f'--num_processes - 1 = {num_processes - 1}'
    )
  if ':' not in coordinator:
    raise ConfigError(
      f'--coordinator={coordinator} has no port; write HOST:PORT'
    )


@contextlib.contextmanager
def exit_on_error(
  *shared: type[Exception],
) -> Iterator[None]:
  """Exits the process at once on an error that not all hosts raise.

  Either a collective failed, since another host is gone, or only this host
  failed, and the others wait for it in a collective. An ordinary exit would
  wait for them. `_ExitMessage` is printed after the error.

  Args:
    shared: errors that all hosts raise, which are raised as usual. Of others, a
      `ConfigError` or `RunError` is printed without a traceback.
  """
  try:
    yield
  except shared:
    raise
  except Exception as error:
    if jax.process_count() == 1:
      raise
    sys.stdout.flush()
    if not isinstance(error, ConfigError | RunError):
      traceback.print_exc()
      os._exit(1)
    print(f'error: {error}', file=sys.stderr, flush=True)
    os._exit(2 if isinstance(error, ConfigError) else 1)


class OtherHostError(ConfigError):
  """Another host stopped because of an error."""


@contextlib.contextmanager
def raise_together() -> Iterator[None]:
  """Raises on all hosts if the enclosed code raises on one of them.

  Otherwise the other hosts would wait in the next collective for ever. All
  hosts must run the enclosed code, and it must contain no collective.

  Raises:
    OtherHostError: if another host raised an error and this one did not.
  """
  error = None
  try:
    yield
  except Exception as caught:
    error = caught
  failed = _gather_flags(error is not None)
  if error is not None:
    raise error
  if failed.any():
    raise OtherHostError(
      f'process {failed.argmax()} of {len(failed)} failed; see the error that '
      'it printed'
    )


def log(message: str) -> None:
  """Prints a line, on the first host only."""
  if jax.process_index() == 0:
    print(message, flush=True)


def any_host(flag: bool) -> bool:
  """Whether the flag is True on any host; all hosts must call it."""
  return bool(_gather_flags(flag).any())


def _gather_flags(flag: bool) -> np.ndarray:
  """The flags of all hosts, bool [hosts]."""
  flags = np.asarray([flag])
  if jax.process_count() > 1:
    flags = multihost_utils.process_allgather(flags, tiled=True)
  return flags


def is_first() -> bool:
  """Whether this is process 0, which alone accesses what all hosts share."""
  return jax.process_index() == 0


def from_first(value: Any) -> Any:
  """Broadcasts plain data from the first host; a collective of all hosts.

  Args:
    value: what JSON can represent; ignored on all hosts but the first.

  Returns:
    The first host's value. With several hosts its tuples become lists.
  """
  if jax.process_count() == 1:
    return value
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  length = multihost_utils.broadcast_one_to_all(np.asarray(len(data)))
  buffer = np.zeros(int(length), np.uint8)
  if is_first():
    buffer[:] = data
  shared = multihost_utils.broadcast_one_to_all(buffer)
  return json.loads(np.asarray(shared, np.uint8).tobytes())


def gather(value: Any) -> list[Any]:
  """Gathers plain data of all hosts on each of them; a collective.

  Args:
    value: what JSON can represent.

  Returns:
    The value of each host, in their order. With several hosts, tuples become
    lists.
  """
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  lengths = multihost_utils.process_allgather(np.asarray([len(data)]))
  lengths = np.asarray(lengths).ravel()
  buffer = np.zeros(lengths.max(), np.uint8)
  buffer[: len(data)] = data
  rows = np.asarray(multihost_utils.process_allgather(buffer), np.uint8)
  return [
    json.loads(row[:length].tobytes())
    for row, length in zip(rows, lengths, strict=True)
  ]


def wait_for_files(happened: Callable[[], bool], otherwise: str) -> None:
  """Waits until what another host did to shared files is visible here.

  Network file systems may take a while.

  Args:
    happened: whether it is visible.
    otherwise: what this process does if it is not, for the message.

  Raises:
    ConfigError: if it is not visible within `NEW_FILE` seconds.
  """
  end = time.monotonic() + NEW_FILE
  while not happened():
    if time.monotonic() > end:
      raise ConfigError(f'process {jax.process_index()} {otherwise}')
    time.sleep(0.1)


def create_shared_folder(folder: Path) -> None:
  """Creates a folder if it is missing, and checks that all hosts share it.

  Otherwise hosts would wait for files of the others for ever.

  Args:
    folder: folder on a file system that all hosts share.

  Raises:
    ConfigError: on a host that can't write the folder, or can't read what the
      first host wrote there.
    OtherHostError: on the other hosts.
  """
  if jax.process_count() == 1:
    return
  token = np.frombuffer(os.urandom(8), np.uint8)
  token = multihost_utils.broadcast_one_to_all(token)
  marker = folder / f'.hosts-{bytes(token).hex()}'
  first = is_first()
  with raise_together():
    if first:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
      except OSError as error:
        raise ConfigError(
          f'{folder} cannot be written: {errors.reason(error)}'
        ) from error
  try:
    with raise_together():
      wait_for_files(
        marker.exists,
        f'does not see the file that process 0 wrote in {folder}; --workdir '
        'must be a folder that all hosts share, such as one on NFS',
      )
  finally:
    if first:
      marker.unlink(missing_ok=True)


def _lost_message() -> str:
  return (
    f'error: process {jax.process_index()} of {jax.process_count()} ended '
    'because of an error, printed above, or was killed, or another process '
    f'died or was silent for {HEARTBEAT} seconds; JAX names it above, if so. '
    'The same command on all hosts resumes from the last checkpoint, or starts '
    'again if there is none'
  )


class _ExitMessage:
  """A message that a child process prints if this process is aborted.

  If a host is lost, JAX aborts the others from C++, with a stack trace.
  """

  def __init__(self):
    child = (
      'import sys\n'
      'message = ""\n'
      'for line in sys.stdin: message = line.strip()\n'
      'if message: print(message, file=sys.stderr, flush=True)'
    )
    self._process = subprocess.Popen(
      [sys.executable, '-ES', '-c', child],
      stdin=subprocess.PIPE,
      text=True,
      # The child must not receive the terminal's signals.
      start_new_session=True,
    )
    self._owner = os.getpid()
    atexit.register(self._shut_down)

  def set(self, message: str) -> None:
    """Replaces the message; nothing is printed if it is empty."""
    self._process.stdin.write(f'{message}\n')
    self._process.stdin.flush()

  def _shut_down(self) -> None:
    if os.getpid() == self._owner:
      # Waits for the others, and aborts if one is gone.
      jax.distributed.shutdown()
      self.set('')
      self._process.communicate()
