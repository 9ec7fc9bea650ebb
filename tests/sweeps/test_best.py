"""The best trial's config is a file, and one command trains it again."""

import ast
import math
import shlex

import pytest
import trivial

from mmjax.config import overrides, settings
from mmjax.sweeps import best, storage, study, sweep, worker


def _swept(tmp_path, overrides=(), **more):
  """Optuna's study when a sweep of few trials is done, and the sweep."""
  loaded = sweep.load(trivial.write(tmp_path, **more), overrides)
  opened = storage.open_storage('journal', tmp_path / 'lr')
  its_study = study.Study(loaded, opened, 'lr')
  worker.work(loaded, its_study, tmp_path / 'lr', trivial.trainer())
  return its_study.optuna, loaded


def _docstring(path):
  return ast.get_docstring(ast.parse(path.read_text()))


def test_the_best_config_is_what_the_trial_ran(tmp_path):
  whole, loaded = _swept(tmp_path)
  (chosen,) = best.trials(whole)
  lr = min(
    (trial.params['optimizer.lr'] for trial in whole.trials),
    key=lambda lr: abs(math.log10(lr) + 3),
  )
  path = tmp_path / 'lr/best_config.py'
  written = overrides.load(str(path))
  settings.validate(written)
  assert written.optimizer.lr == chosen.params['optimizer.lr'] == lr
  # Without the blind baseline, which would be trained first.
  assert not written.train.blind_baseline
  assert written == loaded.config({'optimizer.lr': lr})
  command = best.command(whole, chosen, tmp_path / 'lr')
  assert shlex.split(command) == [
    *('python', '-m', 'experiments.contrastive'),
    *(f'--config={path}', f'--workdir=runs/lr_trial_{chosen.number}'),
  ]
  docstring = _docstring(path)
  assert command in docstring and '9 steps, and 0:04 of training' in docstring
  assert '--config.train.blind_baseline=true trains it' in docstring


def test_all_that_differs_from_the_configs_own_file_is_listed(tmp_path):
  whole, _ = _swept(
    tmp_path,
    [('train.steps', '7'), ('model.part.size', '3')],
    set="{'optimizer.b1': 0.5, 'train.batch_size': 8, "
    "'model.part': {'name': 'b', 'size': 2}, 'data.extra_splits': ('a',)}",
  )
  (chosen,) = best.trials(whole)
  lr = chosen.params['optimizer.lr']
  docstring = _docstring(tmp_path / 'lr/best_config.py')
  assert docstring.endswith(
    f"""config.py, chosen by the search:
  optimizer.lr: 0.001 -> {lr!r}

Different from {tmp_path}/config.py, the same in all trials:
  optimizer.b1: None -> 0.5
  model.part: {{'name': 'a'}} -> {{'name': 'b', 'size': 3}}
  data.extra_splits: () -> ('a',)
  train.steps: 9 -> 7
  model.part.size: None -> 3"""
  )


@pytest.mark.parametrize(
  'value', ['16', 'None', None, 0.5, ('a', 1), 'a"""\\', {'name': 'z'}]
)
def test_values_of_any_kind_come_back(tmp_path, value):
  _swept(tmp_path, trials=1, space=f"{{'model.width': choice({value!r})}}")
  written = overrides.load(str(tmp_path / 'lr/best_config.py')).model.width
  assert (written.to_dict() if isinstance(value, dict) else written) == value
  _docstring(tmp_path / 'lr/best_config.py')


def test_an_experiment_that_was_chosen_is_started(tmp_path):
  whole, _ = _swept(tmp_path, trials=1, space="{'experiment': choice('vqa')}")
  (chosen,) = best.trials(whole)
  command = best.command(whole, chosen, 'lr')
  assert command.startswith('python -m experiments.vqa --config=lr/best_config')


def test_each_trial_of_a_front_has_a_file_and_a_folder(tmp_path):
  whole, _ = _swept(
    tmp_path,
    metric="('val/quality', 'val/quality')",
    direction="('maximize', 'minimize')",
  )
  front = best.trials(whole)
  assert len(front) == 6
  commands = [best.command(whole, t, tmp_path / 'lr') for t in front]
  for trial, command in zip(front, commands, strict=True):
    assert f'{tmp_path}/lr/pareto_{trial.number}.py' in command
    assert command.endswith(f'--workdir=runs/lr_trial_{trial.number}')
