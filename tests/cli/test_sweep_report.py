"""A sweep's report is one file that shows all of it."""

import re

import pytest
import trivial

from mmjax.cli import main


def _report(tmp_path, capsys, **more):
  workdir = tmp_path / 'lr'
  study = trivial.work(trivial.write(tmp_path, **more), workdir).optuna
  assert main.main(['sweep-report', str(workdir)]) == 0
  assert f'{workdir}/report.html' in capsys.readouterr().out
  text = (workdir / 'report.html').read_text()
  # Nothing is loaded from elsewhere.
  assert not re.findall(r'<(?:script|link|img)[^>]* (?:src|href)=', text)
  return study, text


def test_one_metric(tmp_path, capsys):
  study, text = _report(
    tmp_path,
    capsys,
    space="{'optimizer.lr': loguniform(1e-5, 1e-1), "
    "'train.dtype': choice('float32', 'bfloat16')}",
  )
  lr = study.best_trial.params['optimizer.lr']
  assert f'optimizer.lr: 0.001 -&gt; {lr}' in text
  assert f'--config={tmp_path}/lr/best_config.py --workdir=runs/lr_' in text
  for title in ('History', 'Parallel', 'Slices', 'Importances', 'During'):
    assert f'<h2>{title}' in text
  assert text.count('class="plotly-graph-div"') == 5
  assert '9 steps in 0:04' in text


def test_a_folder_without_a_study_is_named(tmp_path, capsys):
  assert main.main(['sweep-report', str(tmp_path)]) == 2
  assert 'holds no study' in capsys.readouterr().err


@pytest.mark.parametrize('storage', ['journal', 'sqlite:///{}/study.db'])
def test_a_study_without_an_end_is_refused(tmp_path, capsys, storage):
  stopped = lambda config, workdir, report: {}
  file, workdir = trivial.write(tmp_path), tmp_path / 'lr'
  storage = storage.format(tmp_path)
  trivial.work(file, workdir, storage, train=stopped)
  command = ['sweep-report', str(workdir), f'--storage={storage}']
  assert main.main(command) == 2
  assert 'no complete trial yet' in capsys.readouterr().err
