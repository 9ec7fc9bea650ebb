"""A trial that ends every worker fails; one that comes further never does."""

import jax
import pytest
import trivial

from mmjax.parallel import hosts
from mmjax.sweeps import claims, storage, sweep, worker
from mmjax.sweeps import study as study_lib


@pytest.fixture
def die(tmp_path, monkeypatch):
  """Has a worker take a trial and die; the trial's number."""
  monkeypatch.setattr(claims.Claims, 'alive', lambda *_: False)
  loaded = sweep.load(trivial.write(tmp_path, trials=2))

  def take(saved=lambda number: 0, step=None):
    taken = take.study().take(saved)
    if step:
      taken.report(step, 0.5, prunes=False)
    return taken.number

  take.study = lambda: study_lib.Study(
    loaded, storage.open_storage('journal', tmp_path), 'lr'
  )
  take.study().queue()
  return take


def _states(study):
  return [trial.state.name for trial in study.trials()]


def test_silent_deaths_are_many_before_a_trial_fails(die):
  assert [die() for _ in range(14)] == [0] * 7 + [1] * 7
  assert [die() for _ in range(3)] == [0] * 3
  assert _states(die.study()) == ['RUNNING', 'RUNNING']
  assert [die() for _ in range(3)] == [1] * 3
  assert _states(die.study()) == ['FAIL', 'RUNNING']
  assert (
    '10 workers, which were' in die.study().trials()[0].user_attrs['reason']
  )
  assert die.study().take() is None
  assert die.study().done()


@pytest.mark.parametrize('by', ['checkpoints', 'reports'])
def test_what_comes_further_never_fails(die, by):
  for i in range(1, 9):
    for _ in range(5):
      saved = i if by == 'checkpoints' else 0
      assert die(lambda number, saved=saved: saved, None if saved else i) == 0
  assert _states(die.study()) == ['RUNNING', 'WAITING']


def test_an_error_of_several_hosts_fails_its_trial_at_last(
  tmp_path, monkeypatch
):
  begun = []

  def train(config, workdir, report):
    begun.append(workdir.name)
    if workdir.name == '0':
      (workdir / 'checkpoints/4').mkdir(parents=True, exist_ok=True)
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')
    return trivial.trainer()(config, workdir, report)

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(hosts, 'from_first', lambda value: value)
  file = trivial.write(tmp_path, trials=2)
  for _ in range(4):  # It came further in the first.
    with pytest.raises(RuntimeError, match='Out of memory'):
      trivial.work(file, tmp_path / 'lr', train=train)
  study = trivial.work(file, tmp_path / 'lr', train=train)
  assert begun == ['0', '0', '0', '1', '0']
  assert _states(study) == ['FAIL', 'COMPLETE']
  reason = study.trials()[0].user_attrs['reason']
  assert 'no further than step 4' in reason
  assert 'the last one by RuntimeError: RESOURCE_EXHAUSTED' in reason


def test_steps_saved_are_those_of_all_repeats(tmp_path):
  for name in ('0/4', '0/8', '0/12.orbax-checkpoint-tmp', '1/4'):
    repeat, step = name.split('/')
    (tmp_path / f'repeat_{repeat}/checkpoints/{step}').mkdir(parents=True)
  assert worker.saved(tmp_path) == 12
  assert worker.saved(tmp_path / 'repeat_0') == 8
