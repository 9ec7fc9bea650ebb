"""Where a study lies, and what becomes of it when that is out of reach."""

import threading

import optuna

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
