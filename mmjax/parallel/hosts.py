"""Many hosts as one: finding each other, and noticing that one is gone."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax.errors import ConfigError, RunError

# A host that says nothing for so many seconds is taken for dead.
HEARTBEAT = 30
# So long do hosts wait for each other, at the start and at the end.
START, END = 300, 60
# And so long until a file of one is seen by all.
NEW_FILE = 30


def connect(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes that were started together; before JAX is used.

  On SLURM (under srun), Open MPI, Cloud TPU VMs and GKE, JAX finds the others
  by itself. Elsewhere every process is told the same `coordinator` and
  `num_processes` and its own `process_id`. A process that is alone stays alone,
  and what has joined before is left as it is.

  Args:
    coordinator: 'HOST:PORT' of process 0, with a port that is free there.
    num_processes: of all hosts together; 1 keeps a process alone wherever it
      runs.
    process_id: 0 to num_processes - 1.

  Raises:
    ConfigError: if only some of the three are given, or they don't fit.
    RuntimeError: if the others don't answer.
  """
  given = {
    '--coordinator': coordinator,
    '--num_processes': num_processes,
    '--process_id': process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  alone = num_processes == 1 and len(missing) == 2
  if alone or jax.distributed.is_initialized():
    return
  if missing and len(missing) < 3:
    raise ConfigError(
      f'{", ".join(missing)} missing: several processes need all of '
      f'{", ".join(given)}, or none where the cluster tells them'
    )
  if not missing and not 0 <= process_id < num_processes:
    raise ConfigError(
      f'--process_id={process_id} is none of the --num_processes='
      f'{num_processes}; they are numbered from 0'
    )
  if not missing and ':' not in coordinator:
    raise ConfigError(
      f'--coordinator={coordinator} has no port; write HOST:PORT'
    )
  words = None
  if not missing:
    words = _LastWords()
    words.will_be(
      f'error: the {num_processes} processes did not find each other within '
      f'{START} seconds; start all of them, with the same '
      f'--coordinator={coordinator}, which every host must reach'
    )
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      initialization_timeout=START,
      heartbeat_timeout_seconds=HEARTBEAT,
      shutdown_timeout_seconds=END,
    )
  except ValueError as error:
    # JAX's way to say that no cluster that it knows is here.
    if not (missing and 'coordinator_address' in str(error)):
      raise
    return
  if jax.process_count() > 1:
    words = words or _LastWords()
    words.will_be(_lost())
  elif words:
    words.will_be('')


@contextlib.contextmanager
def ending_together(
  *alike: type[Exception],
) -> Iterator[None]:
  """Ends this process at once where an error means that hosts have parted.

  A collective failed, since another host is gone; or this host alone went
  wrong, and the others wait for it in a collective. An orderly way out would
  wait for them. The last words follow.

  Args:
    alike: errors that all hosts raise alike, so that they end in order. Of
      others, a `ConfigError` or `RunError` is printed without a traceback.
  """
  try:
    yield
  except alike:
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


class Refused(ConfigError):
  """Another host stopped because of an error."""


@contextlib.contextmanager
def agreeing() -> Iterator[None]:
  """Has no host go on from here unless all of them do; all come by here.

  Else those that could would wait for the others in the next collective. There
  is none in what this encloses.

  Raises:
    Refused: if an error ended it on another host, and none on this one.
  """
  error = None
  try:
    yield
  except Exception as caught:
    error = caught
  failed = _of_all(error is not None)
  if error is not None:
    raise error
  if failed.any():
    raise Refused(
      f'process {failed.argmax()} of {len(failed)} cannot go on; what it '
      'printed says why'
    )


def log(message: str) -> None:
  """Prints a line, of several hosts on the first one alone."""
  if jax.process_index() == 0:
    print(message, flush=True)


def any_of(here: bool) -> bool:
  """Whether it is so on any host; all of them ask."""
  return bool(_of_all(here).any())


def _of_all(here: bool) -> np.ndarray:
  """[hosts] of bool: what each host says."""
  answers = np.asarray([here])
  if jax.process_count() > 1:
    answers = multihost_utils.process_allgather(answers, tiled=True)
  return answers


def is_first() -> bool:
  """Whether this is process 0, which talks with what all hosts share."""
  return jax.process_index() == 0


def from_first(value: Any) -> Any:
  """Broadcasts plain data from the first host; a collective of all hosts.

  Args:
    value: what JSON can hold; ignored on all hosts but the first.

  Returns:
    The first host's value. Between several hosts its tuples become lists.
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


def meet_in(folder: Path) -> None:
  """Makes sure that all hosts see the same folder; makes it if there is none.

  Else each would wait for files of the others for ever.

  Args:
    folder: of a file system that all hosts share.

  Raises:
    ConfigError: on a host that doesn't see what the first one wrote.
      or that can't write the folder.
    Refused: on the others.
  """
  if jax.process_count() == 1:
    return
  token = np.frombuffer(os.urandom(8), np.uint8)
  token = multihost_utils.broadcast_one_to_all(token)
  sign = folder / f'.hosts-{bytes(token).hex()}'
  first = is_first()
  with agreeing():
    if first:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        sign.touch()
      except OSError as error:
        raise ConfigError(str(error)) from error
  try:
    with agreeing():
      # Network file systems may take a while to show what is new.
      end = time.monotonic() + NEW_FILE
      while not sign.exists():
        if time.monotonic() > end:
          raise ConfigError(
            f'process {jax.process_index()} does not see in {folder} what '
            'process 0 wrote there; --workdir must be a folder that all hosts '
            'share, such as one on NFS'
          )
        time.sleep(0.1)
  finally:
    if first:
      sign.unlink(missing_ok=True)


def _lost() -> str:
  return (
    f'error: process {jax.process_index()} of {jax.process_count()} ended '
    'because of an error, named above, or was killed, or another process died '
    f'or was silent for {HEARTBEAT} seconds; JAX names it above, if so. The '
    'same command on all hosts goes on from the last checkpoint, or from the '
    'start if there is none'
  )


class _LastWords:
  """Has a child tell why, should this process end without a chance to.

  Where a host is lost, JAX aborts the others from C++, with a stack trace.
  """

  def __init__(self):
    child = (
      'import sys\n'
      'words = ""\n'
      'for line in sys.stdin: words = line.strip()\n'
      'if words: print(words, file=sys.stderr, flush=True)'
    )
    self._process = subprocess.Popen(
      [sys.executable, '-ES', '-c', child],
      stdin=subprocess.PIPE,
      text=True,
      # Signals to the terminal's processes are not for it.
      start_new_session=True,
    )
    self._owner = os.getpid()
    atexit.register(self._end_well)

  def will_be(self, words: str) -> None:
    """Replaces what is told; nothing, if it is empty."""
    self._process.stdin.write(f'{words}\n')
    self._process.stdin.flush()

  def _end_well(self) -> None:
    if os.getpid() == self._owner:
      # Waits for the others, and aborts where one is gone.
      jax.distributed.shutdown()
      self.will_be('')
      self._process.communicate()
