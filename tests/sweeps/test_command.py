"""What the command does before the first trial."""

import types

import pytest
import toy
import trivial

from mmjax.sweeps import claims, command, storage, sweep
from mmjax.sweeps import study as study_lib
from mmjax.train.settings import UserError


def _values(tmp_path, **more):
  given = {
    'workdir': str(tmp_path / 'lr'),
    'storage': 'journal',
    'grace': claims.GRACE,
    'retry_failed': False,
  }
  return types.SimpleNamespace(**given | more)


def _no_data(config):
  raise FileNotFoundError(f'{config.data.data_dir}/toy is not there')


def _refusing(config):
  if config.optimizer.lr > 1e-2:
    raise ValueError('too high')
  return toy.build(config)


def _study(file, tmp_path):
  opened = storage.open_storage('journal', tmp_path / 'lr')
  return study_lib.Study(sweep.load(file), opened, 'lr')


def _states(study):
  return [trial.state.name for trial in study.trials()]


def test_a_worker_without_the_data_touches_no_trial(tmp_path):
  file = trivial.write(tmp_path)
  study = _study(file, tmp_path)
  study.queue()
  overrides = [('data.data_dir', '/nowhere')]
  loaded = sweep.load(file, overrides)
  with pytest.raises(UserError, match='/nowhere/toy is not there'):
    command._run_here(loaded, _values(tmp_path), lambda name: _no_data)
  assert _states(study) == ['WAITING'] * 6
  assert not (tmp_path / 'lr/trials').exists()


def test_a_sweep_that_was_refused_leaves_no_study(tmp_path):
  loaded = sweep.load(trivial.write(tmp_path))
  with pytest.raises(UserError, match='too high'):
    command._run_here(loaded, _values(tmp_path), lambda name: _refusing)
  file = trivial.write(
    tmp_path, trials=2, space="{'optimizer.lr': loguniform(1e-4, 1e-3)}"
  )
  study = _study(file, tmp_path)
  study.queue()
  assert _states(study) == ['WAITING'] * 2
