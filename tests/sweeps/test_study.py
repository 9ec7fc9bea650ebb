"""Which trials there are, and in which order they are taken."""

import jax
import pytest
import trivial

from mmjax.parallel import hosts
from mmjax.sweeps import lease, load
from mmjax.sweeps import study as study_lib
from mmjax.training import stopping

State = study_lib.State


def _study(tmp_path, name='lr', **more):
  loaded = load.load(trivial.write(tmp_path, **{'trials': 2} | more))
  return study_lib.Study(loaded, 'journal', tmp_path / name)


def _states(study):
  return [trial.state.name for trial in study.trials()]


@pytest.fixture
def die(tmp_path, monkeypatch):
  """Has a worker take a trial and die; returns the trial's number."""
  monkeypatch.setattr(lease.Worker, 'may_take', lambda *_: True)

  def die(step=0):
    taken = _study(tmp_path).take()
    if step:
      taken.report(step, 0.5)
    return taken.number

  return die


def test_a_trial_that_ends_its_workers_fails(tmp_path, die):
  assert [die() for _ in range(12)] == [0] * 6 + [1] * 6
  study = _study(tmp_path)
  assert _states(study) == ['FAIL', 'RUNNING']
  assert study.take() is None
  assert _states(study) == ['FAIL', 'FAIL']
  reason = 'it ended 6 workers without progress after step 0'
  assert study.trials()[0].user_attrs['reason'].startswith(reason)
  assert study.done()


@pytest.mark.parametrize('by', ['checkpoints', 'reports'])
def test_a_trial_that_makes_progress_never_fails(tmp_path, die, by):
  for i in range(1, 5):
    for _ in range(3):
      assert die(i if by == 'reports' else 0) == 0
    if by == 'checkpoints':
      (tmp_path / f'lr/trials/0/checkpoints/{i}').mkdir(parents=True)
  assert _states(_study(tmp_path)) == ['RUNNING']


def test_an_error_of_several_hosts_fails_its_trial_in_the_end(
  tmp_path, monkeypatch
):
  begun = []

  def train(config, workdir, report):
    begun.append(workdir.name)
    if workdir.name == '0':
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')
    return trivial.trainer()(config, workdir, report)

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(hosts, 'from_first', lambda value: value)
  monkeypatch.setattr(stopping, 'preempted', lambda: False)
  file = trivial.write(tmp_path, trials=2)
  for _ in range(6):
    with pytest.raises(RuntimeError, match='Out of memory'):
      trivial.work(file, tmp_path / 'lr', train=train)
  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert begun == ['0'] * 6 + ['1']
  assert _states(study) == ['FAIL', 'COMPLETE']
  log = (tmp_path / 'lr/trials/0/log.txt').read_text()
  assert log.count('RuntimeError: RESOURCE_EXHAUSTED') == 6


def test_workers_that_add_a_trial_together_run_no_trial_too_many(tmp_path):
  studies = [_study(tmp_path) for _ in range(2)]
  for study in studies:  # Each has read that two trials are missing.
    for _ in range(2):
      study.optuna.enqueue_trial({})
  assert len(studies[0].optuna.trials) == 4
  assert len(studies[0].trials()) == 2
  first, second = studies
  with first.take().holding(), second.take().holding():
    assert _study(tmp_path).take() is None
    assert not first.done()
  # If there shall be more, the spare ones are used.
  more = _study(tmp_path, trials=5)
  numbers = []
  for _ in range(5):
    trial = more.take()
    trial.end(State.PRUNED)
    numbers.append(trial.number)
  assert numbers == [0, 1, 2, 3, 4]


def test_a_trial_that_was_taken_since_it_was_read_is_left_alone(tmp_path):
  first, second = _study(tmp_path), _study(tmp_path)
  with first.take().holding():
    assert second._begin(0) is None
    assert second.take().number == 1


def test_a_trial_that_another_worker_ended_stays_as_it_is(tmp_path):
  study = _study(tmp_path)
  taken = study.take()
  study.optuna.tell(0, 0.5)
  taken.end(State.FAIL, reason='no space left')
  assert study.trials()[0].value == 0.5
