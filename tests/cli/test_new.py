"""A new project works as its README says, where there is no clone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from mmjax.cli import main
from mmjax.config import experiment_file
from mmjax.errors import ConfigError

ROOT = Path(__file__).parents[2]
# So that a command of the README takes seconds and needs no data.
TINY = {
  'shapes/small': 'synthetic',
  '--config=config.py ': '--config=config.py:tiny ',
  'runs/first': 'runs/tiny',
  'cpu:2': 'cpu:1',  # This process has one device.
}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
  """A new project, its example trained and swept, one run each."""
  folder = tmp_path_factory.mktemp('outside') / 'my_project'
  assert main.main(['new', str(folder)]) == 0
  installed = folder.parent / 'installed'
  installed.mkdir()
  # Without the folders beside it, as a package that is installed.
  (installed / 'mmjax').symlink_to(ROOT / 'mmjax')
  sweep = (folder / 'sweep.py').read_text()
  for old, new in {
    "'config.py'": "'config.py:tiny'",
    "{'train.steps': 100, 'train.eval_every': 50}": "{'train.steps': 2}",
    'trials=8': 'trials=1',
  }.items():
    assert old in sweep
    sweep = sweep.replace(old, new)
  (folder / 'sweep.py').write_text(sweep)
  PIL.Image.new('RGB', (20, 20), 'red').save(folder / 'photo.png')
  environment = os.environ | {'PYTHONPATH': str(installed)}
  for command in _commands(folder):
    if command[0] == 'python' or command[1] == 'sweep':
      mmjax = [sys.executable, '-m', 'mmjax.cli.main']
      start = [sys.executable] if command[0] == 'python' else mmjax
      done = subprocess.run(
        [*start, *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
      )
      assert done.returncode == 0, done.stdout + done.stderr
  return folder


def _commands(folder):
  lines = (folder / 'README.md').read_text().splitlines()
  commands = []
  for line in dict.fromkeys(line for line in lines if line.startswith('    ')):
    for old, new in TINY.items():
      line = line.replace(old, new)
    if line.strip() != 'pytest' and 'prepare' not in line:
      commands.append(shlex.split(line))
  # The line for a real run is now that of the tiny one.
  return [c for i, c in enumerate(commands) if c not in commands[:i]]


@pytest.mark.slow
def test_the_commands_of_its_readme(project, monkeypatch, capsys):
  monkeypatch.chdir(project)
  printed = {}
  for command in _commands(project):
    if command[0] == 'mmjax' and command[1] != 'sweep':
      assert main.main(command[1:]) == 0
      printed[command[1]] = capsys.readouterr().out
  assert {*printed} == {'report', 'predict', 'plan', 'sweep-report'}
  assert 'image to text R@1' in printed['report']
  assert printed['predict'].startswith('cosine  text\n')
  assert '1 x cpu, mesh of one device' in printed['plan']
  assert '1 complete' in printed['sweep-report']


@pytest.mark.slow
def test_its_tests_pass(project, monkeypatch, tmp_path):
  monkeypatch.chdir(project)
  monkeypatch.syspath_prepend(str(project))
  names = ('config', 'experiment', 'test_experiment')
  for name in names:
    monkeypatch.delitem(sys.modules, name, raising=False)
  import test_experiment as tests

  tests.test_absent_images_are_masked()
  tests.test_a_run_trains_and_is_opened_again(tmp_path / 'run')
  for name in names:
    sys.modules.pop(name, None)


@pytest.mark.parametrize('what', ['file', 'folder'])
def test_what_exists_is_not_overwritten(what, tmp_path, capsys):
  path = tmp_path / 'mine'
  if what == 'file':
    path.write_text('mine')
  else:
    path.mkdir()
    (path / 'config.py').write_text('mine')
  assert main.main(['new', str(path)]) == 2
  assert f'{path} exists already; choose another' in capsys.readouterr().err
  kept = path if what == 'file' else path / 'config.py'
  assert kept.read_text() == 'mine'


def test_outside_of_a_clone_its_experiments_are_explained(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [p for p in sys.path if p != str(ROOT)])
  monkeypatch.delitem(sys.modules, 'experiments.contrastive', raising=False)
  monkeypatch.setitem(sys.modules, 'experiments', None)
  with pytest.raises(ConfigError, match=r'a clone of mmjax: .*`mmjax new F'):
    experiment_file.find('contrastive')
