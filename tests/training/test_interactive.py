"""`mmjax.train` in a notebook: folders, names, history, plots, the bar."""

import io
import subprocess
import sys
import tempfile
import types

import numpy as np
import pytest
import toy

import mmjax
from mmjax.config import experiment_file
from mmjax.errors import ConfigError, RunError
from mmjax.training import history as history_lib
from mmjax.training import interactive, progress


@pytest.fixture(scope='module')
def history(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  config = toy.config(eval_every=3, log_every=1)
  history = mmjax.train(config, toy.build, folder)
  assert config == toy.config(eval_every=3, log_every=1)  # Not changed.
  return history


def test_a_history_has_losses_evaluations_and_results(history):
  assert history['loss'].steps.tolist() == [1, 2, 3, 4, 5, 6]
  assert np.isfinite(history['loss'].values).all()
  assert history['val/toy/norm'].steps.tolist() == [3, 6]
  assert 'loss' in history and 'los' not in history
  assert list(history.keys()) == list(history) and len(history) > 1
  assert [*history] == [*history.series]
  assert history.results['test/toy/norm'] > 0
  shown = repr(history)
  assert shown.startswith('<history of 6 steps, loss ')
  assert 'test/toy/bias' in shown and 'train_seconds' not in shown
  with pytest.raises(ConfigError, match=r"'val/toy/nor'; .*did you mean 'val/"):
    history['val/toy/nor']


def test_metrics_are_drawn_by_step(history, monkeypatch):
  figure = history.plot()
  drawn = {ax.get_title(): ax.lines[0].get_xydata() for ax in figure.axes}
  assert [*drawn] == ['loss', 'val/toy/norm', 'val/toy/bias']
  np.testing.assert_array_equal(
    drawn['loss'], np.stack(history['loss'], axis=1)
  )
  (ax,) = history.plot('lr').axes
  assert ax.get_title() == 'lr'
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(RunError, match=r"pip install 'mmjax\[notebook\]'"):
    history.plot()


def test_without_a_folder_each_run_has_a_new_one(capsys):
  folders = []
  for steps in (1, 2):
    folders.append(mmjax.train(toy.config(steps=steps), toy.build).folder)
    assert f'the run is in {folders[-1]}' in capsys.readouterr().out
  assert folders[0] != folders[1]


def test_a_refused_run_leaves_and_names_no_folder(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  with pytest.raises(ConfigError, match=r'there are val/toy'):
    mmjax.train(toy.config(keep_best='val/foo'), toy.build)
  assert 'the run is in' not in capsys.readouterr().out
  assert not list(tmp_path.iterdir())


def test_a_run_that_was_stopped_is_not_finished(history, tmp_path):
  (tmp_path / 'config.json').write_text(
    (history.folder / 'config.json').read_text()
  )
  read = lambda: repr(history_lib.read(tmp_path, toy.build))
  assert read().startswith('<history of a run without a step')
  (tmp_path / 'metrics.jsonl').write_text('{"step": 2, "loss": 3.5}\n')
  assert read().startswith('<history of 2 steps of 6, not finished, loss 3.5')


def test_an_experiment_is_named_so_that_it_is_found_again(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'own.py').write_text('build = lambda config, mesh: None\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  import own

  assert interactive._find(own, '') == (own.build, 'own.py')
  (tmp_path / 'below').mkdir()
  monkeypatch.chdir('below')
  assert interactive._find(own, '') == (own.build, str(tmp_path / 'own.py'))
  build = lambda config, mesh: None
  found, name = interactive._find(build, 'own.py')
  assert found is build and experiment_file.find(name) is build
  with pytest.raises(ConfigError, match=r'module types has no `build`'):
    interactive._find(types, '')
  with pytest.raises(ConfigError, match='experiment=3 is not an experiment'):
    interactive._find(3, '')


def test_an_experiment_of_another_session_is_explained(monkeypatch):
  monkeypatch.setattr(experiment_file, '_in_memory', [])
  with pytest.raises(ConfigError, match='in a notebook that has ended; write'):
    experiment_file.find(experiment_file.IN_MEMORY)


def test_a_notebook_has_a_bar_that_is_updated(monkeypatch, capsys):
  shown = []
  handle = types.SimpleNamespace(update=shown.append)
  display = types.SimpleNamespace(
    HTML=str, display=lambda bar, display_id: shown.append(bar) or handle
  )
  module = types.SimpleNamespace(display=display)
  monkeypatch.setitem(sys.modules, 'IPython', module)
  kind = {'__module__': 'ipykernel.iostream'}
  stream = type('OutStream', (io.StringIO,), kind)()
  with monkeypatch.context() as patch:
    patch.setattr(sys, 'stdout', stream)
    line = progress.make(40)
    for step in (10, 20):
      line.show(step, {'loss': 1.5}, first=True)
  assert shown == [
    f'<progress value="{step}" max="40"></progress> '
    f'<code>step {step}/40  loss 1.5000</code>'
    for step in (10, 20)
  ]
  assert type(progress.make(40)) is progress.Progress


def test_the_package_is_imported_without_jax():
  code = (
    'import sys, mmjax; '
    "sys.exit(' '.join({'jax', 'numpy', 'matplotlib'} & {*sys.modules}) or 0)"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True)
  assert done.returncode == 0, done.stderr
