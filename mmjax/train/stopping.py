"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
import threading

import jax
import numpy as np


class Stopping:
  """Notes the first signal; the second one acts as if this weren't here.

  A context; only in the main thread, as Python's signals are.
  """

  def __init__(self):
    self._signal: int | None = None
    self._before: dict[int, object] = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_):
    self._put_back()

  def _note(self, number: int, frame: object) -> None:
    self._signal = number
    self._put_back()
    print(
      f'\n{signal.Signals(number).name}: finishing the step, then saving; '
      'once more to abort',
      flush=True,
    )

  def _put_back(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def asked(self, *, meet: bool = True) -> bool:
    """Whether to stop; all hosts give the same answer.

    Args:
      meet: whether hosts may ask each other now. They do so at steps that all
        of them reach; in between, several hosts never stop.
    """
    mine = self._signal is not None
    if jax.process_count() == 1:
      return mine
    if not meet:
      return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(mine)).any())
