"""Whole runs of a toy: resumed ones equal uninterrupted ones to the bit."""

import json

import jax
import numpy as np
import pytest
import toy

from mmjax.errors import ConfigError
from mmjax.runs import checkpoints
from mmjax.training import loop, runner


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
  folder = tmp_path_factory.getbasetemp() / 'xla'
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(folder))


def _run(workdir, build=toy.build, sections=None, **train):
  config = toy.config(**train) | (sections or {})
  return runner.run(config, build, workdir)


def _lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def _equal(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


def _stop_at(monkeypatch, step):
  """A signal that comes while `step` runs."""
  count = iter(range(1, 1000))
  asked = {'stop': False}
  monkeypatch.setattr(
    'mmjax.training.progress.Meter.step',
    lambda self, examples: asked.update(stop=next(count) >= step),
  )
  monkeypatch.setattr(
    'mmjax.training.stopping.Stopping.asked', lambda self: asked['stop']
  )


def test_a_run_leaves_what_the_design_says(tmp_path):
  results = _run(tmp_path, eval_every=3, ema_decay=0.5)
  assert {path.name for path in tmp_path.iterdir()} == {
    'checkpoints',
    'config.json',
    'metrics.jsonl',
    'results.json',
    'samples',
    'toy.txt',
  }
  assert results == json.loads((tmp_path / 'results.json').read_text())
  assert set(results) == {
    'step',
    'train_seconds',
    *(f'{s}/toy/{n}' for s in ('val', 'test') for n in ('norm', 'bias')),
  }
  assert {path.name for path in (tmp_path / 'samples').iterdir()} == {
    'val_toy_000003.png',
    'val_toy_000006.png',
    'test_toy_000006.png',
  }
  lines = _lines(tmp_path)
  assert [line['step'] for line in lines] == [1, 2, 3, 4, 6]
  assert {
    'loss',
    'loss/mean',
    'count/mean',
    'mean/doubled',
    'grad_norm',
    'lr',
    'examples_per_second',
    'step_time',
    'data_wait',
  } <= set(lines[1])
  assert {f'startup/{n}' for n in ('imports', 'data', 'init', 'compile')} <= (
    set(lines[0])
  )
  # Evaluation is of the average.
  ema = checkpoints.load_params(tmp_path)
  np.testing.assert_allclose(
    results['val/toy/norm'], np.linalg.norm(ema['up']['kernel']), rtol=1e-6
  )


@pytest.mark.parametrize('stop', [2, 5])
def test_a_resumed_run_equals_the_uninterrupted_one(
  tmp_path, monkeypatch, stop, capsys
):
  train = {'checkpoint_every': 2, 'ema_decay': 0.9, 'eval_every': 4}
  want = _run(tmp_path / 'whole', **train)
  with monkeypatch.context() as patch:
    _stop_at(patch, stop)
    assert _run(tmp_path / 'parts', **train) == {}
  assert f'stopped at step {stop}' in capsys.readouterr().out
  got = _run(tmp_path / 'parts', **train)
  assert f'resuming from step {stop}' in capsys.readouterr().out
  for ema in (True, False):
    _equal(
      checkpoints.load_params(tmp_path / 'whole', ema=ema),
      checkpoints.load_params(tmp_path / 'parts', ema=ema),
    )
  assert got | {'train_seconds': 0} == want | {'train_seconds': 0}
  steps = [line['step'] for line in _lines(tmp_path / 'parts')]
  assert steps == sorted(set(steps))
  same = {line['step']: line['loss'] for line in _lines(tmp_path / 'whole')}
  for line in _lines(tmp_path / 'parts'):
    assert same.get(line['step'], line['loss']) == line['loss']


def test_a_damaged_checkpoint_costs_its_steps_alone(tmp_path, capsys):
  train = {'steps': 4, 'checkpoint_every': 2}
  want = _run(tmp_path, **train)
  whole = checkpoints.load_params(tmp_path)
  (tmp_path / 'results.json').unlink()
  # As a crash of the machine may leave it.
  (tmp_path / 'checkpoints/4/params/_METADATA').write_text('')
  got = _run(tmp_path, **train)
  said = capsys.readouterr().out
  assert 'checkpoint of step 4 cannot be read' in said
  assert 'resuming from step 2' in said
  assert got | {'train_seconds': 0} == want | {'train_seconds': 0}
  _equal(checkpoints.load_params(tmp_path), whole)
  assert [line['step'] for line in _lines(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize('name', ['config.json', 'results.json'])
def test_a_damaged_file_of_the_run_is_named(tmp_path, name):
  (tmp_path / name).write_text('{"train": {')
  with pytest.raises(ConfigError, match=f'{name} is damaged .*move it'):
    _run(tmp_path, build=None)


def test_a_finished_run_says_so_and_builds_nothing(tmp_path, capsys):
  results = _run(tmp_path)
  assert _run(tmp_path, build=None) == results
  out = capsys.readouterr().out
  assert 'is finished: all 6 steps are done, so nothing is trained' in out
  assert '--config.train.steps=12. Its' in out and 'val/toy/norm' in out


@pytest.mark.parametrize(
  'path, message', [('file', 'file is a file'), ('file/a/b', 'lies in .*/file')]
)
def test_a_workdir_that_is_a_file_is_refused_before_all_else(
  tmp_path, path, message
):
  (tmp_path / 'file').write_text('precious')
  with pytest.raises(ConfigError, match=f'--workdir=.*{message}'):
    _run(tmp_path / path, build=None)
  assert (tmp_path / 'file').read_text() == 'precious'


def test_utilisation_is_told_where_the_peak_is_known(tmp_path, monkeypatch):
  monkeypatch.setattr('mmjax.training.flops.peak_of', lambda devices: 1e12)
  _run(tmp_path / 'once', steps=2)
  _run(tmp_path / 'parts', steps=2, accumulate=2)
  for name in ('once', 'parts'):
    line = _lines(tmp_path / name)[-1]
    # Forward and backward of two layers, but for the images' gradient.
    products = 2 * 8 * (2 * 16 * 16 + 3 * 16 * 8)
    assert line['mfu'] == pytest.approx(products / line['step_time'] / 1e12)


@pytest.mark.parametrize('url', ['gs://bucket/run', 's3://b', 'gs:/bucket/x'])
def test_a_url_is_no_workdir(url):
  with pytest.raises(
    ConfigError, match=f'--workdir={url} is a URL, and a fold'
  ):
    _run(url)


def test_a_finished_run_can_be_made_longer(tmp_path, capsys):
  _run(tmp_path, steps=4)
  assert _run(tmp_path, steps=6)['step'] == 6
  # 1e-3 (1 + cos(pi 3 / 6)) / 2 and 1e-3 (1 + cos(pi 3 / 4)) / 2.
  assert (
    'train.steps changed from 4 to 6: the learning rate at step 4 is 5.0e-04 '
    'instead of 1.5e-04, since its schedule (cosine) is stretched'
  ) in capsys.readouterr().out
  with pytest.raises(ConfigError, match=r'train.steps=5, but .* done 6'):
    _run(tmp_path, steps=5)


def test_another_config_is_refused_by_naming_the_fields(tmp_path):
  _run(tmp_path, steps=2)
  with pytest.raises(ConfigError) as error:
    _run(tmp_path, steps=2, ema_decay=0.5)
  assert 'train.ema_decay: 0.0 -> 0.5' in str(error.value)


def test_a_kill_between_the_last_save_and_the_results(tmp_path):
  want = _run(tmp_path)
  (tmp_path / 'results.json').unlink()
  got = _run(tmp_path)
  assert got | {'train_seconds': 0} == want | {'train_seconds': 0}
  assert [line['step'] for line in _lines(tmp_path)] == [1, 2, 4, 6]


def test_keep_best_saves_at_evaluations(tmp_path):
  _run(
    tmp_path,
    eval_every=2,
    keep_best='val/toy/norm',
    keep_last=1,
  )
  steps = checkpoints.Checkpoints(tmp_path).steps()
  norms = {
    line['step']: line['val/toy/norm']
    for line in _lines(tmp_path)
    if 'val/toy/norm' in line
  }
  assert set(norms) == {2, 4, 6}
  best = max(norms, key=norms.get)
  assert best != 6 and steps == [best, 6]
  named = {'wanted': 'best', 'keep_best': 'val/toy/norm'}
  assert checkpoints.find_step(tmp_path, **named) == best
  assert checkpoints.find_step(tmp_path, **named, best_mode='min') == 6
  assert checkpoints.find_step(tmp_path, None) == 6
  with pytest.raises(ConfigError, match='no checkpoint of step 5; there are'):
    checkpoints.find_step(tmp_path, 5)
  # A run that goes on knows it too.
  _run(tmp_path, steps=8, eval_every=4, keep_best='val/toy/norm', keep_last=1)
  assert checkpoints.steps_in(tmp_path) == [best, 8]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
  def build(config, mesh):
    experiment = toy.build(config, mesh)
    whole = experiment.train_data.batch

    def batch(i):
      out = whole(i)
      return out | {'image': out['image'] * (np.nan if i == 4 else 1)}

    experiment.train_data.batch = batch
    return experiment

  with pytest.raises(loop.NonFiniteError, match=r'step 5: loss/mean=nan'):
    _run(tmp_path, build, steps=9, log_every=100, checkpoint_every=2)
  assert checkpoints.Checkpoints(tmp_path).latest() == 4


def test_frozen_parameters_are_as_they_were_made(tmp_path):
  frozen = {'optimizer': {'freeze': ('^up',)}}
  _run(tmp_path / 'a', sections=frozen, steps=3)
  _run(tmp_path / 'b', sections=frozen, steps=1)
  a, b = (checkpoints.load_params(tmp_path / name) for name in 'ab')
  _equal(a['up'], b['up'])
  assert (a['down']['kernel'] != b['down']['kernel']).any()


@pytest.mark.parametrize(
  'sections, message',
  [
    ({'optimizer': {'freeze': ('uq/',)}}, r'optimizer.freeze.*near it'),
    ({'mesh': {'data': 7}}, 'multiply to 7'),
    ({'train': {'keep_best': 'val/foo'}}, r'there are val/toy/\.\.\.'),
    ({'train': {'batch_size': 3, 'accumulate': 2}}, '3 is not divisible'),
  ],
)
def test_mistakes_leave_no_config_behind(tmp_path, sections, message):
  with pytest.raises(ConfigError, match=message):
    _run(tmp_path, sections=sections)
  assert not (tmp_path / 'config.json').exists()


def test_a_signal_in_an_evaluation_saves_and_does_without_it(
  tmp_path, monkeypatch
):
  asked, done = {'stop': False}, []
  monkeypatch.setattr(
    'mmjax.training.stopping.Stopping.asked', lambda self: asked['stop']
  )

  class Interrupted(toy.Evaluator):
    def run(self, params):
      asked['stop'] = True
      yield from super().run(params)

  class Other:
    def run(self, params):
      done.append('other')
      yield 'other', 1.0

    def render(self):
      return None

  def build(config, mesh):
    built = toy.build(config, mesh)
    built.evaluators['val'] |= {'toy': Interrupted(), 'other': Other()}
    return built

  train = {'eval_every': 3, 'keep_best': 'val/toy/norm'}
  assert _run(tmp_path, build, **train) == {}
  assert checkpoints.Checkpoints(tmp_path).latest() == 3
  assert not (tmp_path / 'results.json').exists()
  asked['stop'] = False
  assert _run(tmp_path, build, **train) == {}  # In the last evaluation.
  assert checkpoints.Checkpoints(tmp_path).latest() == 6
  assert not done
  asked['stop'] = False
  assert _run(tmp_path, **train)['step'] == 6


def test_a_report_is_told_each_evaluation_and_ends_the_run(tmp_path, capsys):
  told = []

  def report(step, metrics):
    told.append((step, metrics['val/toy/norm']))
    return step == 4

  train = {'steps': 8, 'eval_every': 2}
  ended = runner.run(
    toy.config(**train), toy.build, tmp_path, should_stop=report
  )
  assert ended == json.loads((tmp_path / 'results.json').read_text())
  assert ended['step'] == 4
  assert [step for step, _ in told] == [2, 4]
  assert 'stopped at step 4' in capsys.readouterr().out
  assert (tmp_path / 'checkpoints' / '4').is_dir()
  whole = _run(tmp_path / 'whole', **train)
  # It is an ordinary run: the same command goes on.
  results = _run(tmp_path, **train)
  assert results | {'train_seconds': 0} == whole | {'train_seconds': 0}


def test_a_signal_at_a_report_that_ends_the_run_is_not_lost(
  tmp_path, monkeypatch
):
  asked = {'stop': False}
  monkeypatch.setattr(
    'mmjax.training.stopping.Stopping.asked', lambda self: asked['stop']
  )

  def report(step, metrics):
    asked['stop'] = True
    return True

  config = toy.config(eval_every=2)
  assert runner.run(config, toy.build, tmp_path, should_stop=report) == {}
  assert checkpoints.Checkpoints(tmp_path).latest() == 2


def test_a_check_refuses_what_a_run_would():
  runner.check(toy.config(), toy.build)
  with pytest.raises(ConfigError, match='steps=0'):
    runner.check(toy.config(steps=0), toy.build)
  frozen = toy.config() | {'optimizer': {'freeze': ('nowhere/',)}}
  with pytest.raises(ConfigError, match='nowhere/'):
    runner.check(frozen, toy.build)
  with pytest.raises(ConfigError, match=r'val/elsewhere/x.*val/toy/'):
    runner.check(toy.config(keep_best='val/elsewhere/x'), toy.build)
  with pytest.raises(ConfigError, match='width 7'):
    runner.check(toy.config(), _refusing)


def _refusing(config, mesh):
  raise ConfigError('width 7 is not divisible by 2 heads')
