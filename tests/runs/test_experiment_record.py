"""The experiment file that a run was trained with is the one that opens it."""

import json
import sys

import pytest

from mmjax import tasks
from mmjax.config import components, experiment_file
from mmjax.errors import ConfigError
from mmjax.runs import experiment_record
from mmjax.training import experiment

CODE = """
from mmjax import tasks
from mmjax.training import experiment

class Own(tasks.Task):
  ability = {name!r}

build = experiment.Builder(tasks={{'own': Own}})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
  """(folder, name of its experiment) -> its run; another file is elsewhere."""

  def make(folder, name):
    path = tmp_path / folder
    for root, ability in ((path, folder), (tmp_path / 'elsewhere', 'another')):
      file = root / (name if name.endswith('.py') else 'own_package/mine.py')
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_text(CODE.format(name=ability))
    run = path / 'runs/x'
    run.mkdir(parents=True)
    config = {'experiment': name, 'tasks': {'own': {}}}
    (run / 'config.json').write_text(json.dumps(config))
    monkeypatch.chdir(path)
    experiment_record.write(run, name)
    monkeypatch.chdir(tmp_path / 'elsewhere')
    return run

  monkeypatch.setattr(sys, 'path', list(sys.path))
  yield make
  for name in [name for name in sys.modules if name.startswith('own_package')]:
    del sys.modules[name]


def _open(run, given=None):
  """Which class a run is opened with."""
  config = experiment_record.read_config(run, given)
  return components.of(config).task_table['own'].ability


def test_a_file_of_another_folder_is_not_used(project, tmp_path, capsys):
  run = project('mine', 'own.py')
  assert _open(run) == 'mine' and not capsys.readouterr().err
  file = tmp_path / 'mine/own.py'
  file.write_text(CODE.format(name='changed'))
  assert _open(run) == 'changed'
  assert f'note: {file} has changed since {run} w' in capsys.readouterr().err
  assert _open(run, 'own.py') == 'another'
  (run / experiment_record.FILE).unlink()
  assert _open(run) == 'another'
  assert 'elsewhere/own.py is used' in capsys.readouterr().err


def test_what_was_moved_is_found_by_its_content_beside_the_run(
  project, tmp_path
):
  run = project('mine', 'own.py')
  (tmp_path / 'mine').rename(tmp_path / 'moved')
  run = tmp_path / 'moved/runs/x'
  assert _open(run) == 'mine'
  (tmp_path / 'moved/own.py').unlink()
  message = (
    rf'no tasks\.own, and .*/mine/own\.py, is gone; .*/elsewhere/own\.py is '
    rf"another file; .*load\('{run}', experiment=FILE\)"
  )
  with pytest.raises(ConfigError, match=message):
    _open(run)
  build = experiment.Builder(
    tasks={'own': type('Own', (tasks.Task,), {'ability': ''})}
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(experiment_file, '_in_memory', [])
    assert _open(run, build) == ''


def test_a_module_is_imported_from_its_own_folder(project):
  first = project('mine', 'own_package.mine')
  second = project('yours', 'own_package.mine')
  assert _open(first) == 'mine'
  with pytest.raises(ConfigError, match='imported own_package from another'):
    _open(second)


def test_a_run_resumes_with_the_same_file_by_another_name(project, tmp_path):
  run = project('mine', 'own.py')
  full = str(tmp_path / 'mine/own.py')
  assert experiment_record.is_same(run, full)
  assert not experiment_record.is_same(run, 'own.py')
  assert experiment_record.describe_change(run, full) == ''
  differs = experiment_record.describe_change(run, 'own.py')
  assert f'last started with {full}; it continues with' in differs
  (tmp_path / 'mine/own.py').write_text('')
  changed = experiment_record.describe_change(run, full)
  assert changed == f'note: {full} has changed since the run was last started'
