"""One owner a job, whoever dies when, on every kind of storage."""

import subprocess
import sys
import threading
import time
import types

import pytest

from mmjax.sweeps import claims as claims_lib
from mmjax.sweeps import storage


@pytest.fixture(params=['journal', 'sqlite'])
def opened(request, tmp_path):
  return lambda: storage.open_storage(request.param, tmp_path)


def _claims(opened, **options):
  return claims_lib.Claims(opened(), 'study', **options)


def test_a_living_owner_keeps_its_job(opened):
  mine, theirs = _claims(opened), _claims(opened)
  with mine.take('trial 0') as claim:
    assert theirs.take('trial 0') is None
    assert list(theirs.living()) == ['trial 0']
    claim.check()
  assert not list(theirs.living())
  again = theirs.take('trial 0')
  assert again.taken == 1
  with pytest.raises(claims_lib.Lost, match='trial 0 went over'):
    claim.check()
  again.check()


def test_what_was_claimed_but_not_entered_can_be_claimed_again(opened):
  # As where the storage made the record, and its answer was lost.
  claims = _claims(opened)
  claims.take('trial 0')
  assert not list(claims.living())
  with claims.take('trial 0'):
    assert claims.take('trial 0') is None


def test_one_of_many_gets_a_job(opened):
  all_claims = [_claims(opened) for _ in range(4)]
  got, barrier = [], threading.Barrier(4)

  def take(claims):
    barrier.wait()
    got.append(claims.take('trial 3'))

  threads = [threading.Thread(target=take, args=(c,)) for c in all_claims]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sum(claim is not None for claim in got) == 1


def test_a_dead_process_is_seen_at_once(tmp_path):
  code = (
    'import sys; from mmjax.sweeps import claims, storage;'
    "opened = storage.open_storage('journal', sys.argv[1]);"
    "assert claims.Claims(opened, 'study').take('trial 0');"
    "print('taken', flush=True); input()"
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  assert process.stdout.readline() == b'taken\n'
  claims = _claims(lambda: storage.open_storage('journal', tmp_path))
  assert claims.take('trial 0') is None
  process.kill()
  process.wait()
  assert claims.take('trial 0').taken == 1


def test_elsewhere_the_heartbeat_tells(opened, monkeypatch):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(claims_lib, 'time', clock)
  claims, theirs = _claims(opened, grace=10), _claims(opened)
  claim = theirs.take('trial 0')
  monkeypatch.setattr(claims_lib.processes, 'machine', lambda: 'another')
  assert claims.take('trial 0') is None
  now[0] = 9
  theirs.set(claim.record, 'beat', 1)
  assert claims.take('trial 0') is None
  now[0] = 18
  assert claims.take('trial 0') is None
  now[0] = 19.5
  assert claims.take('trial 0').taken == 1


def test_a_heart_beats(opened):
  claims = _claims(opened, beat_every=0.01)
  with claims.take('trial 0'):
    until = time.monotonic() + 10
    while not claims.owner('trial 0').user_attrs['beat']:
      assert time.monotonic() < until
