"""Workers share a study, take up what others left, and count nothing twice."""

import json
import math
import random
import time

import pytest
import trivial

from mmjax.errors import ConfigError
from mmjax.runs import owner
from mmjax.sweeps import best, lease, load
from mmjax.sweeps import study as study_lib

COMPLETE, PRUNED = 'COMPLETE', 'PRUNED'


def _states(study):
  return [trial.state.name for trial in study.trials()]


def _params(study):
  return [trial.params for trial in study.trials()]


def test_trials_are_run_in_folders_of_their_own(tmp_path):
  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 6
  for trial in study.trials():
    folder = tmp_path / 'lr/trials' / str(trial.number)
    results = json.loads((folder / 'results.json').read_text())
    assert trial.value == results['val/quality']
    assert set(trial.intermediate_values) == set(range(1, 10))
    assert trial.user_attrs['steps'] == 9
    assert trial.user_attrs['seconds'] == 4.5
    assert 'deaths' not in trial.user_attrs


def test_the_best_config_is_written_if_a_worker_died_before_that(tmp_path):
  file = trivial.write(tmp_path)
  trivial.work(file, tmp_path / 'lr')
  path = tmp_path / 'lr/best_config.py'
  before = path.read_text()
  path.unlink()
  trivial.work(file, tmp_path / 'lr')
  assert path.read_text() == before


def test_a_trial_that_another_worker_ended_counts_once(tmp_path, monkeypatch):
  """This worker was taken for dead, and the trials' folders aren't shared."""

  def train(config, workdir, report):
    if workdir.name == '0':
      with monkeypatch.context() as patch:
        patch.setattr(lease.Worker, 'may_take', lambda *_: True)
        whole = study_lib.Study(load.load(file), 'journal', tmp_path / 'lr')
        other = whole.take()
      assert (other.number, other.report(1, 0.5)) == (0, False)
      other.end(study_lib.State.COMPLETE, 0.5, steps=9, seconds=4.5)
      assert report(1, {'val/quality': 0.25})  # The run ends here.
      return {'val/quality': 0.25, 'step': 1, 'train_seconds': 1.0}
    return trivial.trainer()(config, workdir, report)

  file = trivial.write(tmp_path)
  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  assert study.trials()[0].value == 0.5


def test_a_trial_whose_folder_is_in_use_is_left_and_taken_later(tmp_path):
  tries = []

  def train(config, workdir, report):
    if workdir.name == '0':
      tries.append(workdir)
      if len(tries) < 4:
        raise owner.OccupiedError('in use by process 5')
    return trivial.trainer()(config, workdir, report)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  log = (tmp_path / 'lr/trials/0/log.txt').read_text()
  assert log.count('in use by process 5') == 3


@pytest.mark.slow
def test_kills_lose_nothing_and_count_nothing_twice(tmp_path):
  file = trivial.write(
    tmp_path, sampler="dict(name='tpe', n_startup_trials=2)", seed=3
  )
  want = trivial.work(file, tmp_path / 'whole')
  folder = tmp_path / 'killed' / 'whole'
  location = f'sqlite:///{tmp_path}/study.db'

  def steps():
    paths = (folder / 'trials').glob('*/steps.txt')
    return [line for path in paths for line in path.read_text().splitlines()]

  draw, kills = random.Random(0), 0
  while True:
    process = trivial.start(file, folder, location, 0.04)
    until = len(steps()) + draw.randint(0, 6) if kills < 5 else math.inf
    while process.exitcode is None and len(steps()) < until:
      time.sleep(0.01)
    if process.exitcode is not None:
      break
    time.sleep(draw.uniform(0, 0.08))
    process.kill()
    process.join()
    kills += 1
  assert kills == 5
  assert process.exitcode == 0
  got = trivial.work(file, folder, location)
  assert _states(got) == [COMPLETE] * 6
  assert _params(got) == _params(want)
  assert [t.value for t in got.trials()] == [t.value for t in want.trials()]
  assert [t.user_attrs['steps'] for t in got.trials()] == [9] * 6
  assert any('deaths' in trial.user_attrs for trial in got.trials())
  # What a checkpoint holds is not computed again; a kill costs one step.
  assert 54 <= len(steps()) <= 54 + kills


@pytest.mark.slow
@pytest.mark.parametrize('location', ['journal', 'sqlite:///{}/study.db'])
def test_workers_share_a_study(tmp_path, location):
  file = trivial.write(tmp_path, sampler="'random'")
  location = location.format(tmp_path)
  workers = [
    trivial.start(file, tmp_path / 'lr', location, 0.02) for _ in range(2)
  ]
  for process in workers:
    process.join()
    assert process.exitcode == 0
  study = trivial.work(file, tmp_path / 'lr', location)
  assert _states(study) == [COMPLETE] * 6
  for folder in (tmp_path / 'lr/trials').iterdir():
    steps = (folder / 'steps.txt').read_text().split()
    assert steps == [str(i) for i in range(1, 10)]


def test_a_signal_leaves_a_trial_to_the_next_worker(tmp_path):
  file = trivial.write(tmp_path)
  stopped = []

  def train(config, workdir, report):
    if not stopped:
      stopped.append(workdir)
      return {}
    return trivial.trainer()(config, workdir, report)

  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert _states(study) == ['RUNNING']
  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  assert 'deaths' not in study.trials()[0].user_attrs


def test_pruning_saves_steps_and_keeps_the_best(tmp_path):
  whole = trivial.work(
    trivial.write(tmp_path, sampler="'random'"), tmp_path / 'lr'
  )
  pruned = trivial.work(
    trivial.write(tmp_path, sampler="'random'", pruner="'successive_halving'"),
    tmp_path / 'pruned',
  )
  assert _params(pruned) == _params(whole)
  assert PRUNED in _states(pruned)
  assert best.find(pruned.optuna).number == best.find(whole.optuna).number
  for trial in pruned.trials():
    if trial.state.name == PRUNED:
      assert trial.user_attrs['steps'] == trial.last_step < 9
      assert trial.value == trial.intermediate_values[trial.last_step]


def test_a_seed_is_a_field_as_any_other(tmp_path):
  file = trivial.write(
    tmp_path, space="{'seed': integers(0, 2)}", sampler="'grid'", trials=None
  )
  study = trivial.work(file, tmp_path / 'lr')
  values = {t.params['seed']: t.value for t in study.trials()}
  assert values == pytest.approx({0: 1.0, 1: 1.01, 2: 1.02})


def test_another_sweep_needs_another_folder(tmp_path):
  trivial.work(trivial.write(tmp_path, trials=2), tmp_path / 'lr')
  study = trivial.work(trivial.write(tmp_path, trials=3), tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 3
  with pytest.raises(ConfigError, match='seed: 0 -> 1'):
    trivial.work(trivial.write(tmp_path, seed=1), tmp_path / 'lr')
