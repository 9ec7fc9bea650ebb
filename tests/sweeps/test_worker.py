"""Workers share a study, take up what others left, and count nothing twice."""

import json
import math
import random
import time

import optuna
import pytest
import trivial

from mmjax.errors import ConfigError
from mmjax.runs import owner
from mmjax.sweeps import best, claims, storage, worker

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
    assert trial.user_attrs['taken'] == 0


def test_the_best_config_is_written_if_a_worker_died_before_that(tmp_path):
  file = trivial.write(tmp_path)
  trivial.work(file, tmp_path / 'lr')
  path = tmp_path / 'lr/best_config.py'
  before = path.read_text()
  path.unlink()
  trivial.work(file, tmp_path / 'lr')
  assert path.read_text() == before


def test_a_trial_that_fails_when_it_is_anothers_is_left_to_it(
  tmp_path, monkeypatch
):
  def lost(claim):
    raise claims.Lost('trial 0 went over')

  def train(*args):
    if not (tmp_path / 'failed').exists():
      (tmp_path / 'failed').touch()
      monkeypatch.setattr(claims.Claim, 'check', lost)
      raise OSError('two workers in one folder')
    monkeypatch.undo()
    return trivial.trainer()(*args)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  assert 'went over' in (tmp_path / 'lr/trials/0/log.txt').read_text()


def test_a_worker_waits_while_another_process_is_in_the_folder(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(worker, '_POLL', 0.0)
  tries = []

  def train(*args):
    tries.append(args)
    if len(tries) < 4:
      raise owner.OccupiedError('in use by process 5')
    return trivial.trainer()(*args)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  log = (tmp_path / 'lr/trials/0/log.txt').read_text()
  assert log.count('in use by process 5\nwaiting for it') == 1


@pytest.mark.slow
def test_a_killed_worker_changes_no_trial(tmp_path):
  file = trivial.write(
    tmp_path,
    sampler="dict(name='tpe', n_startup_trials=2)",
    pruner="'hyperband'",
    seed=3,
  )
  want = trivial.work(file, tmp_path / 'whole')
  folder = tmp_path / 'killed' / 'whole'

  def steps():
    paths = (folder / 'trials').glob('*/steps.txt')
    return [line for path in paths for line in path.read_text().splitlines()]

  draw, kills = random.Random(0), 0
  while True:
    process = trivial.start(file, folder, seconds=0.04)
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
  got = trivial.work(file, folder)
  assert _params(got) == _params(want)
  assert _states(got) == _states(want)
  assert [t.value for t in got.trials()] == [t.value for t in want.trials()]
  # What a checkpoint holds is not computed again; one step may be lost a kill.
  whole = sum(t.user_attrs['steps'] for t in want.trials())
  assert whole <= len(steps()) <= whole + kills


@pytest.mark.slow
@pytest.mark.parametrize('location', ['journal', 'sqlite'])
def test_workers_share_a_study(tmp_path, location):
  file = trivial.write(tmp_path, sampler="'random'")
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
  assert _states(study) == ['RUNNING', *['WAITING'] * 5]
  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  assert study.trials()[0].user_attrs['taken'] == 1


def test_a_worker_taken_for_dead_leaves_its_trial(tmp_path, monkeypatch):
  taken_over = []

  def train(config, workdir, report):
    run = trivial.trainer()
    if taken_over:
      return run(config, workdir, report)
    opened = storage.open_storage('journal', tmp_path / 'lr')
    theirs = claims.Claims(opened, 'lr')
    with monkeypatch.context() as patch:
      patch.setattr(claims.Claims, 'alive', lambda *_: False)
      taken_over.append(theirs.take('trial 0'))
    with taken_over[0]:
      return run(config, workdir, report)

  study = trivial.work(trivial.write(tmp_path), tmp_path / 'lr', train=train)
  assert _states(study) == [COMPLETE] * 6
  assert study.trials()[0].user_attrs['taken'] == 2
  assert 'went over to' in (tmp_path / 'lr/trials/0/log.txt').read_text()


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
  (a,), (b,) = best.trials(whole.whole), best.trials(pruned.whole)
  assert a.number == b.number
  for trial in pruned.trials():
    if trial.state.name == PRUNED:
      assert trial.user_attrs['steps'] == trial.user_attrs['asked']['step'] < 9
      assert trial.value == trial.intermediate_values[trial.last_step]


class Killed(BaseException):
  """As by kill -9: nothing catches it."""


def test_a_decision_to_prune_outlives_its_worker(tmp_path):
  file = trivial.write(tmp_path, pruner="'successive_halving'")
  study = trivial.work(file, tmp_path / 'lr')
  assert PRUNED in _states(study)

  def train(config, workdir, report):
    out = trivial.trainer()(config, workdir, report)
    if out['step'] < 9:
      raise Killed
    return out

  again = tmp_path / 'again' / 'lr'
  for _ in range(1 + _states(study).count(PRUNED)):
    try:
      killed = trivial.work(file, again, train=train)
      break
    except Killed:
      pass
  assert _states(killed) == _states(study)
  assert _params(killed) == _params(study)


def _kill_after(monkeypatch, number):
  """Kills the worker after one more write to the storage than `number`."""
  done = []
  for name in trivial.WRITES:
    real = getattr(optuna.storages.InMemoryStorage, name)

    def write(*args, real=real, **kwargs):
      out = real(*args, **kwargs)
      done.append(args)
      if len(done) == number + 1:
        raise Killed
      return out

    monkeypatch.setattr(optuna.storages.InMemoryStorage, name, write)
  return done


@pytest.mark.slow
@pytest.mark.parametrize(
  ('sampler', 'pruner'),
  [
    ('random', 'successive_halving'),
    ('tpe', 'hyperband'),
    ('grid', 'none'),
    ('quasi_random', 'none'),
    ('cmaes', 'median'),
    ('nsga2', 'none'),
  ],
)
def test_a_kill_after_any_write_changes_no_trial(
  tmp_path, monkeypatch, sampler, pruner
):
  kinds = {'tpe': {'n_startup_trials': 1}, 'nsga2': {'population_size': 2}}
  file = trivial.write(
    tmp_path,
    set="{'train.steps': 4}",
    sampler=repr({'name': sampler} | kinds.get(sampler, {})),
    pruner=repr(pruner),
    trials=4,
    space="{'optimizer.lr': uniform(0.01, 0.04, 0.01), "
    "'optimizer.b1': uniform(0.5, 0.7, 0.1)}",
  )

  def work(storage, folder):
    monkeypatch.setattr(trivial.storage, 'open_storage', lambda *_: storage)
    monkeypatch.setattr(worker.gc, 'collect', lambda: None)  # Takes most of it.
    return trivial.work(file, tmp_path / folder / 'lr')

  with monkeypatch.context() as patch:
    writes = _kill_after(patch, 10_000)
    want = work(optuna.storages.InMemoryStorage(), 'whole')
  for number in range(len(writes)):
    storage = optuna.storages.InMemoryStorage()
    with monkeypatch.context() as patch, pytest.raises(Killed):
      _kill_after(patch, number)
      work(storage, str(number))
    # What was this process's is a dead one's.
    with monkeypatch.context() as patch:
      patch.setattr(claims.Claims, 'alive', lambda *_: False)
      got = work(storage, str(number))
    assert _params(got) == _params(want), writes[number]
    assert _states(got) == _states(want), writes[number]
    for a, b in zip(got.trials(), want.trials(), strict=True):
      assert a.system_attrs == b.system_attrs, writes[number]
      assert a.user_attrs['steps'] == b.user_attrs['steps'], writes[number]


def test_repeats_are_averaged_and_their_noise_kept(tmp_path):
  file = trivial.write(tmp_path, repeats=3, trials=2)
  study = trivial.work(file, tmp_path / 'lr')
  for trial in study.trials():
    (runs,) = trial.user_attrs['runs']
    assert len(runs) == 3
    assert runs[2] - runs[0] == pytest.approx(0.02)
    assert trial.value == pytest.approx(sum(runs) / 3)
    assert trial.user_attrs['steps'] == 27


def test_several_metrics_make_a_front(tmp_path):
  file = trivial.write(
    tmp_path,
    metric="('val/quality', 'step_time')",
    direction="('maximize', 'minimize')",
    sampler="'nsga2'",
  )
  study = trivial.work(file, tmp_path / 'lr')
  (chosen,) = best.trials(study.whole)  # All are equally quick.
  assert chosen.values[1] == 0.5
  assert (tmp_path / f'lr/pareto_{chosen.number}.py').exists()


def test_another_sweep_needs_another_folder(tmp_path):
  trivial.work(trivial.write(tmp_path, trials=2), tmp_path / 'lr')
  study = trivial.work(trivial.write(tmp_path, trials=3), tmp_path / 'lr')
  assert _states(study) == [COMPLETE] * 3
  with pytest.raises(ConfigError, match='seed: 0 -> 1'):
    trivial.work(trivial.write(tmp_path, seed=1), tmp_path / 'lr')
