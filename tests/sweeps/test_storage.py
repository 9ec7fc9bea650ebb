"""Where a study lies, and what becomes of it when that is out of reach."""

import threading

import optuna
import pytest

from mmjax.sweeps import storage


def test_a_lock_that_a_killed_worker_left_is_taken_over(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  killed = storage.open_storage('journal', 'sweeps/lr')
  killed._backend._lock.acquire()
  opened = storage.open_storage('journal', 'sweeps/lr')
  opened._backend._lock.grace_period = 0.1  # Instead of half a minute.
  writing = threading.Thread(
    target=lambda: optuna.create_study(storage=opened, study_name='lr'),
    daemon=True,
  )
  writing.start()
  writing.join(20)
  assert not writing.is_alive()
  assert optuna.get_all_study_names(opened) == ['lr']


def test_what_answers_at_last_was_worth_waiting_for(monkeypatch):
  monkeypatch.setattr(storage.time, 'sleep', lambda seconds: None)
  errors = [OSError('stale file handle')] * 3

  def read(value):
    if errors:
      raise errors.pop()
    return value

  assert storage.with_retry(read, 5) == 5
  with pytest.raises(ZeroDivisionError):
    storage.with_retry(lambda: 1 / 0)


def test_a_storage_that_stays_out_of_reach_is_an_error(monkeypatch):
  now = iter(range(0, 1000, 50))
  monkeypatch.setattr(storage.time, 'monotonic', lambda: next(now))
  monkeypatch.setattr(storage.time, 'sleep', lambda seconds: None)

  def read():
    raise OSError('no route to postgresql://me:secret@host')

  with pytest.raises(storage.UnreachableError) as caught:
    storage.with_retry(read)
  assert 'no route to postgresql://me:***@host' in str(caught.value)
