"""The best trial's config is a file, and one command trains it again."""

import ast
import math
import shlex

import pytest
import trivial

from mmjax.config import overrides, settings
from mmjax.sweeps import best, load, study, sweep, worker


def _swept(tmp_path, overrides=(), **more):
  """Optuna's study when a sweep of few trials is done, and the sweep."""
  loaded = load.load(trivial.write(tmp_path, **more), overrides)
  its_study = study.Study(loaded, 'journal', tmp_path / 'lr')
  worker.work(loaded, its_study, tmp_path / 'lr', trivial.trainer())
  return its_study.optuna, loaded


def _docstring(path):
  return ast.get_docstring(ast.parse(path.read_text()))


def _command(path):
  lines = _docstring(path).splitlines()
  return shlex.split(next(line for line in lines if ' python -m' in line))


def test_the_best_config_is_what_the_trial_ran(tmp_path):
  whole, loaded = _swept(tmp_path)
  chosen = best.find(whole)
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
  assert written == sweep.vary(loaded.base, {'optimizer.lr': lr})
  assert _command(path) == [
    *('python', '-m', 'experiments.contrastive'),
    *(f'--config={path}', f'--workdir=runs/lr_trial_{chosen.number}'),
  ]
  assert '9 steps in 0:04' in _docstring(path)


def test_all_that_differs_from_the_configs_own_file_is_listed(tmp_path):
  whole, _ = _swept(
    tmp_path,
    [('train.steps', '7'), ('model.part.size', '3')],
    set="{'optimizer.b1': 0.5, 'train.batch_size': 8, "
    "'model.part': {'name': 'b', 'size': 2}, 'data.extra_splits': ('a',)}",
  )
  chosen = best.find(whole)
  lr = chosen.params['optimizer.lr']
  docstring = _docstring(tmp_path / 'lr/best_config.py')
  _, _, changes = docstring.partition(f'Different from {tmp_path}/config.py:\n')
  assert set(changes.splitlines()) == {
    f'  optimizer.lr: 0.001 -> {lr!r}',
    '  optimizer.b1: None -> 0.5',
    "  model.part.name: 'a' -> 'b'",
    '  model.part.size: None -> 3',
    "  data.extra_splits: () -> ('a',)",
    '  train.steps: 9 -> 7',
    '  train.blind_baseline: True -> False',
  }


@pytest.mark.parametrize(
  'value', ['16', 'None', None, 0.5, ('a', 1), 'a"""\\', {'name': 'z'}]
)
def test_values_of_any_kind_come_back(tmp_path, value):
  _swept(tmp_path, trials=1, space=f"{{'model.width': choice({value!r})}}")
  written = overrides.load(str(tmp_path / 'lr/best_config.py')).model.width
  assert (written.to_dict() if isinstance(value, dict) else written) == value
  _docstring(tmp_path / 'lr/best_config.py')


def test_an_experiment_that_was_chosen_is_started(tmp_path):
  _swept(tmp_path, trials=1, space="{'experiment': choice('vqa')}")
  assert _command(tmp_path / 'lr/best_config.py')[2] == 'experiments.vqa'
