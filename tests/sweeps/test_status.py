"""What is printed while a sweep runs."""

import datetime
import io
import sys

import optuna
import trivial

from mmjax.sweeps import load, status, storage
from mmjax.sweeps import study as study_lib

State = optuna.trial.TrialState


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _printed(study, stream, monkeypatch, during):
  monkeypatch.setattr(sys, 'stdout', stream)
  printer = status.StatusPrinter(study)
  during(printer)
  printer.update()
  printer.update(end=True)
  monkeypatch.undo()
  return stream.getvalue().splitlines()


def test_a_line_each_trial_and_a_summary_at_the_end(tmp_path, monkeypatch):
  run = lambda trials: trivial.work(
    trivial.write(tmp_path, trials=trials), tmp_path / 'lr'
  )
  study = run(3).optuna
  lines = _printed(study, io.StringIO(), monkeypatch, lambda _: run(4))
  best = study.best_trial
  assert len(lines) == 2
  assert lines[0].startswith('trial 3 complete  val/quality')
  assert lines[1] == (
    f'lr: 4 trials; 4 complete; best {best.value:.4g} in trial {best.number}'
  )
  lines = _printed(study, _Terminal(), monkeypatch, lambda _: run(5))
  assert [text.split()[0] for text in lines] == ['trial', 'lr:', 'lr:']


def test_a_storage_out_of_reach_is_read_again(tmp_path, monkeypatch):
  def get_trials(*args, **kwargs):
    raise optuna.exceptions.StorageInternalError('no connection')

  def fail_once(printer):
    with monkeypatch.context() as patch:
      patch.setattr(study, 'get_trials', get_trials)
      printer.update()

  file = trivial.write(tmp_path, trials=2)
  study = trivial.work(file, tmp_path / 'lr').optuna
  lines = _printed(study, io.StringIO(), monkeypatch, fail_once)
  assert '2 complete' in lines[-1]


def test_time_left_depends_on_how_many_run(tmp_path):
  loaded = load.load(trivial.write(tmp_path, trials=8))
  opened = storage.open_storage('journal', tmp_path)
  study = study_lib.Study(loaded, opened, tmp_path / 'lr').optuna
  begin = datetime.datetime(2026, 1, 1)
  for seconds in (10, 30, None, None):
    trial = optuna.trial.create_trial(
      state=State.COMPLETE if seconds else State.RUNNING,
      value=1.0 if seconds else None,
    )
    trial.datetime_start = begin
    if seconds:
      trial.datetime_complete = begin + datetime.timedelta(seconds=seconds)
    study.add_trial(trial)
  # Four wait, two are halfway, two run at a time: 20 s * 5 / 2.
  assert status.summary(study).endswith('about 0:50 left')


def test_trials_that_have_begun_are_counted(tmp_path):
  loaded = load.load(trivial.write(tmp_path, trials=2))
  opened = storage.open_storage('journal', tmp_path)
  study = study_lib.Study(loaded, opened, tmp_path / 'lr')
  study.take()
  assert status.summary(study.optuna) == 'lr: 2 trials; 1 begun, 1 waiting'
