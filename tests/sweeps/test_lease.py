"""One owner a trial, whichever worker dies when, on every kind of storage."""

import json
import subprocess
import sys
import time
import types

import optuna
import pytest

from mmjax.sweeps import lease, storage


@pytest.fixture(params=['journal', 'sqlite:///{}/study.db'])
def trial(request, tmp_path):
  """A running trial."""
  opened = storage.open_storage(request.param.format(tmp_path), tmp_path)
  return optuna.create_study(storage=opened, study_name='lr').ask()


def _may_take(worker, trial):
  return worker.may_take(trial.study.get_trials(deepcopy=False)[0])


def test_a_worker_has_its_trial_until_it_lets_go(trial):
  mine, others = lease.Worker(), lease.Worker()
  assert not _may_take(others, trial)  # A worker is about to claim it.
  mine.claim(trial)
  assert not _may_take(others, trial)
  assert _may_take(mine, trial)  # It was not held: the storage failed.
  with mine.holding(trial):
    assert not _may_take(others, trial)
  assert _may_take(others, trial)
  assert not others.replaces_dead(trial.study.trials[0])
  with pytest.raises(OSError), mine.holding(trial):
    mine.claim(trial)
    raise OSError('no space left')
  assert _may_take(others, trial)
  assert others.replaces_dead(trial.study.trials[0])


def test_a_trial_that_ended_can_be_released(trial):
  with lease.Worker().holding(trial):
    trial.study.tell(trial, 1.0)


def test_a_dead_process_is_noticed_at_once(trial):
  code = (
    'import json; from mmjax.sweeps import lease;'
    'claim = lambda name, owner: print(json.dumps(owner), flush=True);'
    'import types;'
    'lease.Worker().claim(types.SimpleNamespace(set_user_attr=claim));'
    'input()'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  owner = json.loads(process.stdout.readline())
  trial.set_user_attr(lease.OWNER, owner)
  worker = lease.Worker()
  assert not _may_take(worker, trial)
  process.kill()
  process.wait()
  assert _may_take(worker, trial)


def test_on_another_machine_the_heartbeat_counts(trial, monkeypatch):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(lease, 'time', clock)
  other = lease.Worker()
  monkeypatch.setattr(lease.processes, 'machine', lambda: 'another')
  monkeypatch.setattr(lease, 'GRACE', 10.0)
  worker = lease.Worker()
  other.claim(trial)
  assert not _may_take(worker, trial)
  now[0] = 9
  other.claim(trial, beat=1)
  assert not _may_take(worker, trial)
  now[0] = 18
  assert not _may_take(worker, trial)
  now[0] = 19.5
  assert _may_take(worker, trial)


def test_the_heart_beats(trial, monkeypatch):
  monkeypatch.setattr(lease, 'BEAT_EVERY', 0.01)
  with lease.Worker().holding(trial):
    until = time.monotonic() + 10
    while not trial.study.trials[0].user_attrs.get(lease.OWNER, {}).get('beat'):
      assert time.monotonic() < until
