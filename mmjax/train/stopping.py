"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import contextlib
import os
import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils


class Stopping:
  """Notes the first signal; the second one acts as if this weren't here.

  A context; only in the main thread, as Python's signals are. Of several hosts,
  a SIGTERM to any one stops all at the same step (JAX's preemption service
  finds it); a Ctrl-C does so at the next step that is logged.
  """

  def __init__(self):
    self._signal: int | None = None
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

  def asked_at(self, step: int, *, meet: bool) -> bool:
    """Whether to stop after a step; all hosts give the same answer.

    Args:
      step: the one just done; hosts call it after every step.
      meet: whether hosts may ask each other now, at steps that all log.
    """
    if jax.process_count() == 1:
      return self.asked()
    if multihost_utils.reached_preemption_sync_point(step):
      self._signal = signal.SIGTERM
      # On every host, since the signal came to any one.
      print(f'SIGTERM to one of the hosts: stopping at step {step}', flush=True)
      return True
    if not meet:
      return False
    asked = multihost_utils.process_allgather(np.asarray(self.asked()))
    if asked.any():
      self._signal = self._signal or signal.SIGINT
    return bool(asked.any())

  def leave(self) -> None:
    """Ends the program after a SIGTERM, when all is saved.

    Raises:
      SystemExit: 143, by which schedulers know to start the run again.
    """
    if self._signal == signal.SIGTERM:
      raise SystemExit(128 + signal.SIGTERM)
