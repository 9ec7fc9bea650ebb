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


def preempted() -> bool:
  """Whether SIGTERM came to any of several hosts.

  All hosts ask at the same places; it is answered with yes once, on all of them
  at the same place, which may be one or two after the signal.
  """
  if not multihost_utils.reached_preemption_sync_point(next(_QUESTIONS)):
    return False
  hosts.log('SIGTERM to one of the hosts: stopping')
  return True


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

  def __enter__(self):
    # With several hosts, SIGTERM is the preemption service's.
    alone = jax.process_count() == 1
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, *([signal.SIGTERM] if alone else [])):
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_):
    self._put_back()

  def _note(self, number: int, frame: object) -> None:
    self._signal = number
    self._put_back()
    said = (
      f'\n{signal.Signals(number).name}: finishing the step, then saving; '
      'once more to abort\n'
    )
    # Not by print: the signal may have come in the middle of one, and another
    # one then raises.
    with contextlib.suppress(OSError):  # Nobody reads it.
      os.write(2, said.encode())

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
