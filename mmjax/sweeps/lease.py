"""Which worker runs a trial: an owner and a heartbeat, kept with the trial.

Workers run on any machines, die at any moment and do not know each other; all
that they share is Optuna's storage. A trial belongs to the worker that wrote
itself into it last. That worker counts up a heartbeat; all others leave the
trial alone while it is alive, and one that was taken for dead finds out at its
next `check` and leaves the trial. So two workers may run a trial for a while if
both take it in the same moment, but one of them ends it: a run's folder lets in
one process at a time, and Optuna ends a trial once.

A worker is dead if its process has ended, where that can be observed (same
machine, same process namespace); else if its heartbeat did not change for
`grace` seconds of the observer's clock. Clocks are never compared.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from typing import Any

import optuna

from mmjax.runs import processes
from mmjax.sweeps import storage

BEAT_EVERY = 20.0
GRACE = 120.0
OWNER, _BEAT = 'owner', 'beat'


class LostError(RuntimeError):
  """Another worker has taken over the trial."""


class Lease:
  """A trial that is this worker's while its heart beats; a context.

  Args:
    leases: this worker's.
    trial: running; it is written into.
  """

  def __init__(self, leases: 'Leases', trial: optuna.Trial):
    self._leases, self._trial = leases, trial
    self._owner = leases.identity()
    self._end = threading.Event()
    self._thread = threading.Thread(
      target=self._beat, daemon=True, name=f'lease of trial {trial.number}'
    )
    trial.set_user_attr(OWNER, self._owner)

  def __enter__(self) -> 'Lease':
    self._leases.held.add(self._owner['lease'])
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._end.set()
    self._thread.join()
    self._leases.held.discard(self._owner['lease'])
    # A trial that has ended has no owner. Where the storage is out of reach,
    # others see that this process ends.
    ended = optuna.exceptions.UpdateFinishedTrialError
    with contextlib.suppress(*storage.ERRORS, ended, LostError):
      self.check()
      self._trial.set_user_attr(OWNER, None)

  def check(self) -> None:
    """Reads the owner.

    Raises:
      LostError: if it is another worker.
    """
    trials = self._trial.study.get_trials(deepcopy=False)
    owner = trials[self._trial.number].user_attrs.get(OWNER)
    if owner != self._owner:
      worker = owner['worker'] if owner else 'another worker'
      raise LostError(
        f'trial {self._trial.number} was taken over by {worker}, which did not '
        'receive the heartbeat of this worker'
      )

  def _beat(self) -> None:
    count = 0
    while not self._end.wait(self._leases.beat_every):
      count += 1
      # A storage out of reach for a while ends no trial.
      with contextlib.suppress(Exception):
        self._trial.set_user_attr(_BEAT, count)


class Leases:
  """What one worker holds, and what it observed of others.

  Attributes:
    held: identifiers of the leases that are entered.
    grace: seconds without a heartbeat after which a worker is dead.
    beat_every: seconds between two heartbeats.
  """

  def __init__(self, *, grace: float = GRACE, beat_every: float = BEAT_EVERY):
    self.grace, self.beat_every = grace, min(beat_every, grace / 6)
    self.held: set[str] = set()
    self._session = uuid.uuid4().hex
    # Number of a trial -> its owner and beat, and when that was first read.
    self._observed: dict[int, tuple[Any, float]] = {}

  def identity(self) -> dict[str, Any]:
    """A new owner: which process this is, as others can check."""
    return {
      'worker': f'{socket.gethostname()}:{os.getpid()}',
      'machine': processes.machine(),
      'process': os.getpid(),
      'started': processes.started(os.getpid()),
      'session': self._session,
      'lease': uuid.uuid4().hex,
    }

  def is_mine(self, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether this worker was the last one to take the trial."""
    owner = trial.user_attrs.get(OWNER)
    return owner is not None and owner['session'] == self._session

  def alive(self, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a worker has the trial now."""
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
      return False
    if self.is_mine(trial):
      # Not, if the storage failed before the lease was entered.
      return owner['lease'] in self.held
    if owner['machine'] and owner['machine'] == processes.machine():
      return owner['started'] == processes.started(owner['process'])
    sign, now = (owner, trial.user_attrs.get(_BEAT)), time.monotonic()
    before, since = self._observed.setdefault(trial.number, (sign, now))
    if sign != before:
      self._observed[trial.number] = sign, now
      return True
    return now - since < self.grace
