"""Which worker does what, agreed on through the study's own storage.

Workers may be on any machines, die at any moment and not know each other; all
that they share is an Optuna storage. What every kind of storage does at once
and in one order for all is to create a trial, so a claim is one: a record of a
second study, beside the one of the sweep. It says which job it is for and whose
claim it follows. Of several that follow the same one, the first holds; so a job
has one owner at any time, and a dead owner one successor.

A worker is dead if its process is gone, where that can be seen from here (same
machine, same process namespace); else if its heartbeat, a count in its claim,
has not moved for `grace` seconds of the observer's clock. Clocks are never
compared.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

import optuna

from mmjax.runs import processes
from mmjax.sweeps import storage as storage_lib

BEAT_EVERY = 20.0
GRACE = 120.0


class Lost(RuntimeError):
  """Another worker has taken over what this one held for dead."""


class Claim:
  """A job that is this worker's while its heart beats; a context.

  Attributes:
    record: the number that the storage gave it.
    job: what is claimed.
    taken: how many claims there were before.
    inherited: whether another worker had it last, and never gave it back.
  """

  def __init__(
    self,
    claims: 'Claims',
    record: int,
    job: str,
    *,
    taken: int,
    inherited: bool,
  ):
    self._claims = claims
    self.record, self.job, self.taken = record, job, taken
    self.inherited = inherited
    self._end = threading.Event()
    self._thread = threading.Thread(
      target=self._beat, daemon=True, name=f'claim of {job}'
    )

  def __enter__(self) -> 'Claim':
    self._claims.held.add(self.record)
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._end.set()
    self._thread.join()
    self._claims.held.discard(self.record)
    # Where the storage is out of reach, the end of this process tells.
    with contextlib.suppress(*storage_lib.ERRORS):
      self._claims.set(self.record, 'released', True)

  def check(self) -> None:
    """Makes sure that the job is still this worker's.

    Raises:
      Lost: if it isn't.
    """
    owner = self._claims.owner(self.job)
    if owner is not None and owner._trial_id != self.record:
      raise Lost(
        f'{self.job} went over to {owner.user_attrs["worker"]}, since this '
        "worker's heartbeat was not seen"
      )

  def _beat(self) -> None:
    count = 0
    while not self._end.wait(self._claims.beat_every):
      count += 1
      # A storage out of reach for a while is no reason to die.
      with contextlib.suppress(Exception):
        self._claims.set(self.record, 'beat', count)


class Claims:
  """The claims of one study.

  Attributes:
    held: records of the claims that are entered here.

  Args:
    storage: the study's.
    name: the study's.
    grace: seconds without a heartbeat after which a worker is dead.
    beat_every: seconds between heartbeats; more of them if `grace` is short.
  """

  def __init__(
    self,
    storage: optuna.storages.BaseStorage,
    name: str,
    *,
    grace: float = GRACE,
    beat_every: float = BEAT_EVERY,
  ):
    self._storage = storage
    self._study = optuna.create_study(
      storage=storage, study_name=f'{name}.claims', load_if_exists=True
    )
    self._id = storage.get_study_id_from_name(f'{name}.claims')
    self.grace, self.beat_every = grace, min(beat_every, grace / 6)
    self.held: set[int] = set()
    self._token = uuid.uuid4().hex
    # Record -> its beat, and when it was first seen.
    self._seen: dict[int, tuple[int, float]] = {}

  def take(self, job: str) -> Claim | None:
    """Claims a job, unless a living worker has it."""
    owners = self._owners(job)
    if owners and self.alive(owners[-1]):
      return None
    after = owners[-1]._trial_id if owners else -1
    record = self._storage.create_new_trial(
      self._id,
      optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING,
        user_attrs={
          'job': job,
          'after': after,
          'beat': 0,
          'claims': self._token,
          **identity(),
        },
      ),
    )
    owner = self._owners(job)[-1]
    if owner._trial_id != record:
      return None
    before = owners[-1].user_attrs if owners else {'released': True}
    inherited = not (
      before.get('released') or before.get('claims') == self._token
    )
    return Claim(self, record, job, taken=len(owners), inherited=inherited)

  def owner(self, job: str) -> optuna.trial.FrozenTrial | None:
    """The claim that holds, None if there is none."""
    owners = self._owners(job)
    return owners[-1] if owners else None

  def living(self) -> Iterator[str]:
    """Jobs that a living worker has."""
    records = self._records()
    for job in {record.user_attrs['job'] for record in records}:
      owner = _chain(records, job)[-1]
      if self.alive(owner):
        yield job

  def alive(self, record: optuna.trial.FrozenTrial) -> bool:
    """Whether the worker of a claim still holds it."""
    attributes = record.user_attrs
    if attributes.get('released'):
      return False
    if attributes.get('claims') == self._token:
      # Not, if the storage failed before it could be entered.
      return record._trial_id in self.held
    if attributes['machine'] and attributes['machine'] == processes.machine():
      return attributes['started'] == processes.started(attributes['process'])
    beat, now = attributes['beat'], time.monotonic()
    before, since = self._seen.setdefault(record._trial_id, (beat, now))
    if beat != before:
      self._seen[record._trial_id] = beat, now
      return True
    return now - since < self.grace

  def set(self, record: int, name: str, value: object) -> None:
    """Writes into a claim."""
    self._storage.set_trial_user_attr(record, name, value)

  def _owners(self, job: str) -> list[optuna.trial.FrozenTrial]:
    return _chain(self._records(), job)

  def _records(self) -> list[optuna.trial.FrozenTrial]:
    return self._storage.get_all_trials(self._id, deepcopy=False)


def identity() -> dict[str, object]:
  """Which process this is, as others can check."""
  return {
    'worker': f'{socket.gethostname()}:{os.getpid()}',
    'machine': processes.machine(),
    'process': os.getpid(),
    'started': processes.started(os.getpid()),
  }


def _chain(
  records: Sequence[optuna.trial.FrozenTrial], job: str
) -> list[optuna.trial.FrozenTrial]:
  """The claims of a job that held, one after another."""
  of_job = [r for r in records if r.user_attrs['job'] == job]
  chain: list[optuna.trial.FrozenTrial] = []
  after = -1
  while True:
    followers = [r for r in of_job if r.user_attrs['after'] == after]
    if not followers:
      return chain
    # Storages create trials one after another, and number them so.
    chain.append(min(followers, key=lambda record: record._trial_id))
    after = chain[-1]._trial_id
