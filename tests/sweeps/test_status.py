"""What is printed while a sweep runs."""

import datetime
import io
import sys

import optuna
import trivial

from mmjax.sweeps import load, status
from mmjax.sweeps import study as study_lib

State = optuna.trial.TrialState


def _printed(study, monkeypatch, during):
  stream = io.StringIO()
  monkeypatch.setattr(sys, 'stdout', stream)
  printer = status.StatusPrinter(study)
  printer.update()
  during(printer)
  printer.update()
  printer.update()  # Nothing is new.
  monkeypatch.undo()
  return stream.getvalue().splitlines()


def test_a_line_for_each_trial_that_ends_and_a_summary(tmp_path, monkeypatch):
  run = lambda trials: trivial.work(
    trivial.write(tmp_path, trials=trials), tmp_path / 'lr'
  )
  study = run(3).optuna
  lines = _printed(study, monkeypatch, lambda _: run(4))
  best = f'best {study.best_value:.4g} in trial {study.best_trial.number}'
  assert lines[0].startswith('lr: 3 trials; 3 complete; best ')
  assert lines[1].startswith('trial 3 complete  val/quality')
  assert lines[2:] == [f'lr: 4 trials; 4 complete; {best}']


def test_a_storage_out_of_reach_is_read_again(tmp_path, monkeypatch):
  def get_trials(*args, **kwargs):
    raise optuna.exceptions.StorageInternalError('no connection')

  def fail_once(printer):
    trivial.work(trivial.write(tmp_path, trials=3), tmp_path / 'lr')
    with monkeypatch.context() as patch:
      patch.setattr(study, 'get_trials', get_trials)
      printer.update()

  file = trivial.write(tmp_path, trials=2)
  study = trivial.work(file, tmp_path / 'lr').optuna
  lines = _printed(study, monkeypatch, fail_once)
  assert [text.split()[:2] for text in lines[1:]] == [
    ['trial', '2'],
    ['lr:', '3'],
  ]


def test_time_left_depends_on_how_many_run(tmp_path):
  loaded = load.load(trivial.write(tmp_path, trials=8))
  study = study_lib.Study(loaded, 'journal', tmp_path / 'lr').optuna
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
  study = study_lib.Study(loaded, 'journal', tmp_path / 'lr')
  study.take()
  assert status.summary(study.optuna) == 'lr: 2 trials; 1 begun, 1 waiting'
