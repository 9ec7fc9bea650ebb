"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import contextlib
import itertools
import os
import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax.parallel import hosts

# Each question to JAX's preemption service has its number, and numbers rise;
# those of steps would begin again with a process's next run.
_QUESTIONS = itertools.count(1)
# Seconds that a second signal leaves the main thread to clean up.
GRACE = 1.0
# Name of each signal, and how to give it once more.
_SIGNALS = {
  signal.SIGINT: ('Ctrl-C', 'press Ctrl-C again'),
  signal.SIGTERM: ('SIGTERM', 'send it again'),
}
# What ends the thread of a `_Watcher`; not the number of a signal.
_END = b'\0'


def preempted() -> bool:
  """Whether SIGTERM came to any of several hosts.

  All hosts ask at the same places; it is answered with yes once, on all of them
  at the same place, which may be one or two after the signal.
  """
  if not multihost_utils.reached_preemption_sync_point(next(_QUESTIONS)):
    return False
  hosts.log('SIGTERM to one of the hosts: stopping')
  return True


class _Watcher:
  """A thread that receives signals while the main thread can't.

  Python calls the handler of a signal in the main thread, once the call into
  XLA that runs there returns, which may take minutes for a compilation. This
  thread prints at once what the first signal does, and ends the process after
  the second one if the main thread has not done so within `GRACE` seconds.
  """

  def __init__(self):
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._stopped = threading.Event()
    self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def close(self) -> None:
    """Ends the thread; signals are received as before."""
    signal.set_wakeup_fd(self._before)
    self._stopped.set()
    os.write(self._write, _END)
    self._thread.join()
    os.close(self._read)
    os.close(self._write)

  def _watch(self) -> None:
    seen = 0
    while (received := os.read(self._read, 1)) != _END:
      if received[0] not in _SIGNALS:
        continue
      seen += 1
      if seen == 1:
        name, again = _SIGNALS[received[0]]
        _print(
          f'\n{name}: stopping after the current step or compilation, then '
          f'saving; {again} to end now\n'
        )
      elif not self._stopped.wait(GRACE):
        _print(
          'ended at once; the same command resumes from the last checkpoint, '
          'or starts if there is none\n'
        )
        os._exit(128 + received[0])


def _print(text: str) -> None:
  """Prints to stderr; not by `print`, in which the main thread may be."""
  with contextlib.suppress(OSError):  # Its reader has exited.
    os.write(2, text.encode())


class Stopping:
  """Notes the first signal; the second one acts as if this weren't here.

  A context; only in the main thread, as Python's signals are. Of several hosts,
  a SIGTERM to any one stops all at the same step (JAX's preemption service
  finds it); a Ctrl-C does so at the next step that is logged.
  """

  def __init__(self):
    self._signal: int | None = None
    self._agreed = False
    self._before: dict[int, object] = {}
    self._watcher: _Watcher | None = None

  def __enter__(self):
    # With several hosts, SIGTERM is the preemption service's.
    alone = jax.process_count() == 1
    if threading.current_thread() is threading.main_thread():
      self._watcher = _Watcher()
      for number in (signal.SIGINT, *([signal.SIGTERM] if alone else [])):
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_):
    self._put_back()
    if self._watcher is not None:
      self._watcher.close()

  def _note(self, number: int, frame: object) -> None:
    self._signal = number
    self._put_back()

  def _put_back(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def asked(self) -> bool:
    """Whether this process was asked to stop; hosts may answer differently."""
    return self._signal is not None

  def agreed(self, *, meet: bool = False) -> bool:
    """Whether to stop here; all hosts ask at the same places, answered alike.

    Args:
      meet: whether hosts may wait for each other here, to hear of a Ctrl-C.
    """
    if jax.process_count() == 1:
      return self.asked()
    if self._agreed:
      return True
    if preempted():
      self._signal = signal.SIGTERM
      self._agreed = True
    elif meet:
      asked = multihost_utils.process_allgather(np.asarray(self.asked()))
      self._agreed = bool(asked.any())
    return self._agreed

  def leave(self) -> None:
    """Ends the program after a SIGTERM, when all is saved.

    Raises:
      SystemExit: 143, by which schedulers know to start the run again. After a
        Ctrl-C this returns; the command then exits with 130.
    """
    if self._signal == signal.SIGTERM:
      raise SystemExit(128 + signal.SIGTERM)
