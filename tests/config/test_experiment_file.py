"""Experiment files are found, and run once."""

import importlib.machinery
import sys
import types

import pytest

from mmjax.config import experiment_file, settings
from mmjax.errors import ConfigError
from mmjax.training import main


@pytest.fixture
def start(monkeypatch):
  """(build, file or module) -> as if Python had been started with it."""

  def start(build, *, file=None, module=None):
    started = types.ModuleType('__main__')
    started.build, started.__file__ = build, file
    if module is not None:
      started.__spec__ = importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, '__main__', started)

  return start


def test_the_started_file_is_not_run_again(start, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'own.py').write_text('raise ZeroDivisionError')
  build = lambda config, mesh: None
  start(build, file='own.py')
  assert experiment_file.find('own.py') is build
  assert experiment_file.find(str(tmp_path / 'own.py')) is build
  start(build, module='experiments.contrastive')
  assert experiment_file.find('contrastive') is build


def test_a_file_runs_again_where_it_has_changed(tmp_path):
  file = tmp_path / 'own.py'
  file.write_text('def build(config, mesh):\n  return 1\n')
  first = experiment_file.find(str(file))
  assert experiment_file.find(str(file)) is first
  file.write_text('def build(config, mesh):\n  return 23\n')
  assert experiment_file.find(str(file))(None, None) == 23


@pytest.mark.parametrize(
  'started, name',
  [
    ({'module': 'experiments.contrastive'}, 'contrastive'),
    ({'module': 'project.own'}, 'project.own'),
    ({'module': 'own', 'file': 'own.py'}, 'own.py'),
    ({'file': 'project/own.py'}, 'project/own.py'),
  ],
)
def test_a_config_without_an_experiment_gets_the_started_one(
  started, name, start
):
  start(print, **started)
  config = settings.default_config()
  main.name_experiment(config)
  assert config.experiment == name


def test_a_file_that_was_started_elsewhere_is_known_by_its_path_there(
  start, tmp_path, monkeypatch
):
  for folder in ('project', 'other/project'):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / 'own.py').write_text('build = print')
  monkeypatch.chdir(tmp_path / 'other')
  build = lambda config, mesh: None
  start(build, file=str(tmp_path / 'project/own.py'))
  assert experiment_file.find('project/own.py') is build
  assert experiment_file.find(str(tmp_path / 'other/project/own.py')) is print


def test_files_of_two_folders_import_their_own_modules(tmp_path):
  for folder in ('a', 'b'):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'own_parts.py').write_text(f'build = {folder!r}.join')
    (tmp_path / folder / 'own.py').write_text('from own_parts import build')
  find = lambda folder: experiment_file.find(str(tmp_path / folder / 'own.py'))
  assert [find(folder)('--') for folder in 'aba'] == ['-a-', '-b-', '-a-']
  del sys.modules['own_parts']


def test_a_file_that_is_gone_is_named():
  with pytest.raises(ConfigError, match=r'experiment=gone\.py: no such file'):
    experiment_file.find('gone.py')
