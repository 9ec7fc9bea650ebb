"""Which worker runs a trial: an owner whose heart beats, kept with the trial.

Workers run on any machines, die at any moment and do not know each other; all
that they share is Optuna's storage. A worker writes itself into the trial that
it takes, again with each heartbeat, and removes itself at the end; all others
leave the trial alone while it is alive. Two workers may still have one trial
for a while: if both take it in the same moment, or one was taken for dead.
Nothing is counted twice then: a run's folder lets in one process at a time, and
Optuna ends a trial once.

A worker is dead if its process has ended, where that can be observed (same
machine, same process namespace); else if its heartbeat did not change for
`GRACE` seconds of the observer's clock. Clocks are never compared.
"""

import contextlib
import os
import threading
import time
import uuid
from typing import Any

import optuna

from mmjax.runs import processes

BEAT_EVERY = 20.0  # Seconds between two heartbeats.
GRACE = 120.0  # Seconds without a heartbeat after which a worker is dead.
# User attribute of a trial: the worker that has it, or that died of an error.
OWNER = 'owner'


class Worker:
  """A worker, as others can check it, and what it observed of them."""

  def __init__(self):
    self._owner = {
      'worker': uuid.uuid4().hex,
      'machine': processes.machine(),
      'process': os.getpid(),
      'started': processes.started(os.getpid()),
    }
    # Number of a trial -> its owner and beat, and when that was first read.
    self._observed: dict[int, tuple[Any, float]] = {}

  def claim(self, trial: optuna.Trial, **facts: Any) -> None:
    """Writes this worker into a trial."""
    trial.set_user_attr(OWNER, self._owner | facts)

  @contextlib.contextmanager
  def holding(self, trial: optuna.Trial):
    """A context in which the heart beats for a trial that was claimed."""
    end = threading.Event()

    def beat() -> None:
      count = 0
      while not end.wait(BEAT_EVERY):
        count += 1
        # A storage out of reach for a while ends no trial.
        with contextlib.suppress(Exception):
          self.claim(trial, beat=count)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    left = 'stopped'
    try:
      yield
    except Exception:
      left = 'failed'
      raise
    finally:
      end.set()
      thread.join()
      # If the storage is out of reach, others observe that this process ends;
      # a trial that has ended can't be changed.
      with contextlib.suppress(Exception):
        self.claim(trial, left=left)

  def may_take(self, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether no other worker that is alive has a running trial."""
    owner = trial.user_attrs.get(OWNER)
    # Of one without an owner, a worker may be about to write itself into it.
    if owner is not None:
      # Its own: the storage failed after it was claimed.
      if owner['worker'] == self._owner['worker'] or 'left' in owner:
        return True
      if owner['machine'] and owner['machine'] == self._owner['machine']:
        return owner['started'] != processes.started(owner['process'])
    now = time.monotonic()
    before, since = self._observed.setdefault(trial.number, (owner, now))
    if owner != before:
      self._observed[trial.number] = owner, now
      return False
    return now - since >= GRACE

  def replaces_dead(self, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether another worker ended while it had the trial, without a signal."""
    owner = trial.user_attrs.get(OWNER)
    if owner is None or owner['worker'] == self._owner['worker']:
      return False
    return owner.get('left') != 'stopped'
