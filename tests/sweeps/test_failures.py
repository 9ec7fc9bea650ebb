"""What fails: a trial, a metric, a storage; and how the sweep resumes."""

import itertools
import random
import time
import types

import optuna
import pytest
import trivial

from mmjax.errors import ConfigError
from mmjax.runs import disk
from mmjax.sweeps import storage, worker
from mmjax.training import loop

COMPLETE, PRUNED, FAIL = 'COMPLETE', 'PRUNED', 'FAIL'


def _states(study):
  return [trial.state.name for trial in study.trials()]


def _params(study):
  return [trial.params for trial in study.trials()]


def test_a_failed_trial_says_why_and_others_go_on(tmp_path):
  def train(config, workdir, report):
    if workdir.name == '1':
      raise ConfigError('width 7 is not divisible by 2 heads')
    return trivial.trainer()(config, workdir, report)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE, FAIL, *[COMPLETE] * 4]
  assert 'width 7' in study.trials()[1].user_attrs['reason']
  assert 'width 7' in (tmp_path / 'lr/trials/1/log.txt').read_text()


@pytest.mark.parametrize('answered', [False, True])
def test_a_storage_that_fails_now_and_then_changes_no_trial(
  tmp_path, monkeypatch, answered
):
  monkeypatch.setattr(worker.gc, 'collect', lambda: None)
  monkeypatch.setattr(storage, 'time', types.SimpleNamespace(**vars(time)))
  monkeypatch.setattr(storage.time, 'sleep', lambda seconds: None)
  file = trivial.write(tmp_path, pruner="'successive_halving'")
  want = trivial.work(file, tmp_path / 'lr')
  calls = itertools.count()
  for name in (
    'set_trial_param',
    'set_trial_state_values',
    'set_trial_intermediate_value',
    'set_trial_user_attr',
    'create_new_trial',
    'get_all_trials',
  ):
    real = getattr(optuna.storages.JournalStorage, name)

    def fails(*args, real=real, **kwargs):
      broken = next(calls) > 20 and random.random() < 0.1
      if broken and not answered:
        raise optuna.exceptions.StorageInternalError('no connection')
      out = real(*args, **kwargs)
      if broken:  # Done, but the answer is lost.
        raise OSError('connection lost')
      return out

    monkeypatch.setattr(optuna.storages.JournalStorage, name, fails)
  random.seed(0)
  got = trivial.work(file, tmp_path / 'again' / 'lr')
  monkeypatch.undo()
  assert _states(got) == _states(want)
  assert _params(got) == _params(want)


def test_a_storage_that_is_gone_leaves_the_trial(tmp_path, monkeypatch):
  def gone(*args, **kwargs):
    raise optuna.exceptions.StorageInternalError('no connection')

  def train(config, workdir, report):
    with monkeypatch.context() as patch:
      patch.setattr(storage, '_PATIENCE', 0.0)
      patch.setattr(
        optuna.storages.JournalStorage, 'set_trial_intermediate_value', gone
      )
      return trivial.trainer()(config, workdir, report)

  file = trivial.write(tmp_path)
  with pytest.raises(storage.UnreachableError, match='no connection'):
    trivial.work(file, tmp_path / 'lr', train=train)
  study = trivial.work(file, tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 6
  assert study.trials()[0].user_attrs['deaths'] == [0, 1]


def test_divergence_counts_as_pruned(tmp_path):
  def train(config, workdir, report):
    if config.optimizer.lr > 1e-3:
      raise loop.NonFiniteError('step 1: loss=nan')
    return trivial.trainer()(config, workdir, report)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  high = [t.params['optimizer.lr'] > 1e-3 for t in study.trials()]
  assert sum(high) == 3  # In a row; they are no failures.
  assert _states(study) == [PRUNED if h else COMPLETE for h in high]
  assert 'loss=nan' in study.trials()[high.index(True)].user_attrs['reason']


def test_a_full_disk_leaves_the_trial(tmp_path):
  def train(config, workdir, report):
    raise disk.FullError('the disk of x is full')

  file = trivial.write(tmp_path)
  with pytest.raises(disk.FullError):
    trivial.work(file, tmp_path / 'lr', train=train)
  study = trivial.work(file, tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 6


def test_what_fails_always_ends_the_worker(tmp_path):
  def train(config, workdir, report):
    raise OSError('no space left')

  with pytest.raises(worker.TrialsFailedError, match='3 trials failed'):
    trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)


def test_a_sweep_without_a_complete_trial_says_so(tmp_path):
  def train(config, workdir, report):
    raise OSError('no space left')

  file = trivial.write(tmp_path, trials=2)
  study = trivial.work(file, tmp_path / 'lr', train=train)
  with pytest.raises(
    worker.TrialsFailedError, match=r'no trial is complete; .*/lr/'
  ):
    worker.check_complete(study, tmp_path / 'lr')


def test_an_unknown_metric_is_reported_and_can_be_corrected(tmp_path):
  file = trivial.write(tmp_path, metric="'val/other'")
  for _ in range(2):
    with pytest.raises(ConfigError, match='there are val/quality; correct it'):
      trivial.work(file, tmp_path / 'lr')
  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 6
  assert study.optuna.user_attrs['sweep']['metric'] == 'val/quality'
  with pytest.raises(ConfigError, match='begun with another sweep'):
    trivial.work(trivial.write(tmp_path, metric="'val/other'"), tmp_path / 'lr')
