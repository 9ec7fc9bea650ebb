"""One process at a time in a run's folder.

Its file `running.json` says which one, and is locked by it. The lock ends with
the process, however that ends, so that the next one takes a dead one's place.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from mmjax import errors
from mmjax.errors import ConfigError
from mmjax.runs import processes

FILE = 'running.json'
# Seconds until a network file system frees the locks of a host that is gone.
LEASE = 120.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class OccupiedError(ConfigError):
  """Another process runs in the folder."""


@contextlib.contextmanager
def claim(
  folder: Path,
  *,
  log: Callable[[str], None] = print,
  lease: float = LEASE,
  flag: str = 'workdir',
) -> Iterator[None]:
  """Holds a run's folder, which is made if there is none.

  A folder that was made for this is removed at the end if it is empty.

  Args:
    folder: the run's.
    log: prints a message for the user.
    lease: seconds to wait for a process of another host, whose lock may outlive
      it.
    flag: the flag that chooses another folder, for messages.

  Raises:
    OccupiedError: if another process holds the folder.
    ConfigError: if the folder can't be written.
  """
  made = [path for path in (folder, *folder.parents) if not path.exists()]
  path = folder / FILE
  try:
    with _locked(path, log, lease, flag):
      yield
  finally:
    for parent in made:
      with contextlib.suppress(OSError):  # It is not empty.
        parent.rmdir()


def describe_running(folder: Path) -> str | None:
  """Which process runs in a folder, such as 'running on HOST since ...'.

  Args:
    folder: the run's.

  Returns:
    None if none does, or the one that did has ended. Of a process on another
    host, whose lock this one can't check, nothing is known but that it began.
  """
  path = folder / FILE
  who = _who(path)
  if not {'host', 'pid', 'since'} <= set(who):
    return None
  if _is_here(who):
    begun = processes.started(who['pid'])
    if begun is None or begun != who.get('started'):
      return None
  elif _is_unlocked(path):
    return None
  return f'running on {who["host"]} since {who["since"]}'


def _is_unlocked(path: Path) -> bool:
  """Whether no process holds a file's lock; False where that isn't known."""
  try:
    with path.open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      return True
  except OSError:
    return False


@contextlib.contextmanager
def _locked(
  path: Path, log: Callable[[str], None], lease: float, flag: str
) -> Iterator[None]:
  """Locks the file and writes into it who did."""
  file = _wait(path, log, lease, flag)
  try:
    before = _who(path)
    if before:
      log(
        f'taking over from {_describe(before)}: it ended without removing '
        f'{path}'
      )
    file.truncate(0)
    file.write(json.dumps(_identity()) + '\n')
    file.flush()
    yield
  finally:
    # While it is locked: the next process makes a file of its own.
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # Of a full disk.
      file.close()


def _wait(
  path: Path, log: Callable[[str], None], lease: float, flag: str
) -> TextIO:
  """The locked file, once a host that may be gone has lost its lock."""
  end, waits = time.monotonic() + lease, False
  while True:
    file = _lock(path, log)
    if file is not None:
      return file
    who = _who(path)
    message = (
      f'{path.parent} is in use by {_describe(who)}. Wait for its end, stop '
      f'it, or choose another --{flag}'
    )
    if _is_here(who) or time.monotonic() > end:
      raise OccupiedError(message)
    if not waits:
      log(f'{message}; waiting up to {lease:.0f} s, in case its host is gone')
    waits = True
    time.sleep(min(1.0, lease / 4))


def _lock(path: Path, log: Callable[[str], None]) -> TextIO | None:
  """The file, locked; None if another process holds it."""
  while True:
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      file = path.open('a+')
    except FileNotFoundError:
      continue  # The process that made the folder has just removed it.
    except OSError as error:
      raise ConfigError(
        f'{path.parent} cannot be written: {errors.reason(error)}'
      ) from error
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.close()
      return None
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        file.close()
        raise
      if _alive_here(_who(path)):
        file.close()
        return None
      log(
        f'{path.parent} is on a file system without locks: make sure that no '
        'process of another host runs there'
      )
      return file
    # Else its owner has just removed it.
    if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
      return file
    file.close()


def _identity() -> dict[str, Any]:
  return {
    'host': socket.gethostname(),
    'machine': processes.machine(),
    'pid': os.getpid(),
    'started': processes.started(os.getpid()),
    'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
  }


def _who(path: Path) -> dict[str, Any]:
  """What the file says; {} if nothing, as while it is being written."""
  try:
    who = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return who if isinstance(who, dict) else {}


def _describe(who: dict[str, Any]) -> str:
  if not {'host', 'pid', 'since'} <= set(who):
    return 'another process'
  return f'process {who["pid"]} on {who["host"]}, running since {who["since"]}'


def _is_here(who: dict[str, Any]) -> bool:
  """Whether it is a process of this machine, so that its lock ends with it.

  A host's name may be that of another one: of the one that a scheduler started
  in the place of one that is gone.
  """
  mine = _identity()
  return all(who.get(name) == mine[name] for name in ('host', 'machine'))


def _alive_here(who: dict[str, Any]) -> bool:
  """Whether it is another process of this machine that has not ended."""
  if not _is_here(who) or who['pid'] == os.getpid():
    return False
  begun = processes.started(who['pid'])
  return begun is not None and begun == who['started']
