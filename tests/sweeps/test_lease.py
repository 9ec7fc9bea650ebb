"""One owner a trial, whichever worker dies when, on every kind of storage."""

import json
import subprocess
import sys
import time
import types

import optuna
import pytest

from mmjax.sweeps import lease as lease_lib
from mmjax.sweeps import storage


@pytest.fixture(params=['journal', 'sqlite'])
def trial(request, tmp_path):
  """A running trial."""
  opened = storage.open_storage(request.param, tmp_path)
  return optuna.create_study(storage=opened, study_name='lr').ask()


def _alive(leases, trial):
  return leases.alive(trial.study.get_trials(deepcopy=False)[0])


def test_the_last_worker_to_take_a_trial_has_it(trial):
  mine, others = lease_lib.Leases(), lease_lib.Leases()
  assert not _alive(mine, trial)  # Its worker died before it took a lease.
  with lease_lib.Lease(mine, trial) as lease:
    assert _alive(mine, trial) and _alive(others, trial)
    lease.check()
    other = lease_lib.Lease(others, trial)
    with pytest.raises(lease_lib.LostError, match='taken over by'):
      lease.check()
  other.check()  # The one that lost it did not release it.
  assert not _alive(others, trial)  # It was not entered: the storage failed.
  with other:
    assert _alive(mine, trial)
  assert not _alive(mine, trial)


def test_a_trial_that_ended_can_be_released(trial):
  with lease_lib.Lease(lease_lib.Leases(), trial):
    trial.study.tell(trial, 1.0)


def test_a_dead_process_is_noticed_at_once(trial, tmp_path):
  code = (
    'import json; from mmjax.sweeps import lease;'
    'print(json.dumps(lease.Leases().identity()), flush=True);'
    'input()'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  owner = json.loads(process.stdout.readline())
  trial.set_user_attr(lease_lib.OWNER, owner)
  leases = lease_lib.Leases()
  assert _alive(leases, trial)
  process.kill()
  process.wait()
  assert not _alive(leases, trial)


def test_on_another_machine_the_heartbeat_counts(trial, monkeypatch):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(lease_lib, 'time', clock)
  leases = lease_lib.Leases(grace=10)
  lease_lib.Lease(lease_lib.Leases(), trial)
  monkeypatch.setattr(lease_lib.processes, 'machine', lambda: 'another')
  assert _alive(leases, trial)
  now[0] = 9
  trial.set_user_attr('beat', 1)
  assert _alive(leases, trial)
  now[0] = 18
  assert _alive(leases, trial)
  now[0] = 19.5
  assert not _alive(leases, trial)


def test_the_heart_beats(trial):
  with lease_lib.Lease(lease_lib.Leases(beat_every=0.01), trial):
    until = time.monotonic() + 10
    while not trial.study.trials[0].user_attrs.get('beat'):
      assert time.monotonic() < until
