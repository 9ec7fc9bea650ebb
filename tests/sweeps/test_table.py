"""What is shown while a sweep runs."""

import datetime
import io
import time

import optuna
import trivial

from mmjax.sweeps import storage, sweep, table
from mmjax.sweeps import study as study_lib


def test_a_line_each_trial_and_a_table_at_the_end(tmp_path):
  file = trivial.write(tmp_path, trials=3, repeats=2)
  study = trivial.work(file, tmp_path / 'lr').whole
  assert table.line(study, study.trials[1]).startswith(
    f'trial 1 complete  val/quality {study.trials[1].value:.4g}'
  )
  stream = io.StringIO()
  with table.Table(study, stream=stream, every=0.01):
    trivial.work(trivial.write(tmp_path, trials=4, repeats=2), tmp_path / 'lr')
  lines = stream.getvalue().splitlines()
  best = study.best_trial
  assert lines[0].startswith('trial 3 complete  val/quality')
  assert lines[1].startswith(f'lr: 4 trials; 4 complete; best {best.value:.4g}')
  (row,) = [line for line in lines if 'complete *' in line]
  assert row.split()[0] == str(best.number)
  assert '±0.0071' in row  # 0.01 between two seeds.
  assert '18/18' in row


def test_a_terminal_has_a_live_table(tmp_path):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  study = trivial.work(trivial.write(tmp_path, trials=2), tmp_path / 'lr').whole
  stream = Terminal()
  with table.Table(study, stream=stream, every=0.01):
    pass
  assert 'complete *' in stream.getvalue()


def test_a_storage_out_of_reach_is_looked_at_again(tmp_path):
  study = trivial.work(trivial.write(tmp_path, trials=2), tmp_path / 'lr').whole
  stream, looks, real = io.StringIO(), [], study.get_trials

  def get_trials(*args, **kwargs):
    looks.append(args)
    if len(looks) == 3:
      raise optuna.exceptions.StorageInternalError('no connection')
    return real(*args, **kwargs)

  study.get_trials = get_trials
  with table.Table(study, stream=stream, every=0.01):
    until = time.monotonic() + 10
    while len(looks) < 6:
      assert time.monotonic() < until
      time.sleep(0.01)
  assert 'complete *' in stream.getvalue()


def test_a_trial_that_nobody_runs_is_stopped(tmp_path):
  loaded = sweep.load(trivial.write(tmp_path, trials=2))
  opened = storage.open_storage('journal', tmp_path)
  begun = study_lib.Study(loaded, opened, 'lr')
  begun.queue()
  with begun.take().claim:
    assert '1 running, 1 waiting' in table.summary(begun.whole, begun.living())
  assert '1 stopped, 1 waiting' in table.summary(begun.whole, begun.living())
  stream = io.StringIO()
  with table.Table(begun.whole, living=begun.living, stream=stream):
    pass
  (row,) = [text for text in stream.getvalue().splitlines() if '0/9' in text]
  assert row.split()[:2] == ['0', 'stopped']


def test_time_left_counts_who_runs():
  def trial(state, seconds=0):
    return optuna.trial.FrozenTrial(
      number=0,
      state=state,
      value=1.0 if state == table.State.COMPLETE else None,
      datetime_start=datetime.datetime(2026, 1, 1),
      datetime_complete=datetime.datetime(2026, 1, 1, 0, 0, seconds),
      params={},
      distributions={},
      user_attrs={},
      system_attrs={},
      intermediate_values={},
      trial_id=0,
    )

  done = [trial(table.State.COMPLETE, 10), trial(table.State.PRUNED, 20)]
  running = [trial(table.State.RUNNING)] * 2
  waiting = [trial(table.State.WAITING)] * 4
  assert table.seconds_left(done) == 0
  assert table.seconds_left(running + waiting) == 0
  assert table.seconds_left(done + running + waiting) == 15 * 5 / 2
