"""What the report of a sweep contains."""

import re

import optuna
import pytest
import trivial

from mmjax.sweeps import report, storage, study, sweep

State = optuna.trial.TrialState


def _filled(tmp_path, trials, **more):
  """Optuna's study of a sweep, with trials by hand: (state, steps, facts)."""
  loaded = sweep.load(trivial.write(tmp_path, trials=len(trials), **more))
  opened = storage.open_storage('journal', tmp_path / 'lr')
  whole = study.Study(loaded, opened, 'lr').optuna
  space = loaded.space['optimizer.lr'].distribution
  for i, (state, steps, facts) in enumerate(trials):
    lr = 1e-5 * (i + 1)
    facts = {'values': {'optimizer.lr': lr}, 'steps': steps, **facts}
    whole.add_trial(
      optuna.trial.create_trial(
        state=state,
        value=0.1 * i if state == State.COMPLETE else None,
        params={'optimizer.lr': lr},
        distributions={'optimizer.lr': space},
        intermediate_values={steps: 0.1 * i},
        user_attrs={**facts, 'seconds': 2.0 * steps},
      )
    )
  return whole


@pytest.mark.parametrize(
  ('more', 'trials', 'saved'),
  [
    # 3 of 9 steps: 6 of 18 that there would have been.
    ({}, [(State.PRUNED, 3, {})], '33%'),
    # It diverged; that was not the pruner's decision.
    ({}, [(State.PRUNED, 3, {'reason': 'loss=nan'})], '0%'),
    ({}, [(State.FAIL, 3, {})], '0%'),
    # Of 30 steps of its own, 27 of 39.
    (
      {},
      [(State.PRUNED, 3, {'values': {'train.steps': 30}})],
      '69%',
    ),
    # Two runs of 9 steps each, of which the second was never begun.
    ({'repeats': 2}, [(State.PRUNED, 3, {})], '56%'),
    ({'pruner': "'none'"}, [(State.PRUNED, 3, {})], None),
  ],
)
def test_what_pruning_saved(tmp_path, more, trials, saved):
  whole = _filled(
    tmp_path,
    [(State.COMPLETE, 9, {}), *trials],
    **{'pruner': "'median'"} | more,
  )
  text = report.render(whole, tmp_path / 'lr')
  shown = re.findall(r'pruning saved (\d+%) of the steps', text)
  assert shown == ([saved] if saved else [])
  assert 'All trials together trained 12 steps in 0:24' in text


def test_the_files_that_the_commands_name_are_written(tmp_path):
  whole = _filled(tmp_path, [(State.COMPLETE, 9, {})])
  output = tmp_path / 'report.html'
  report.write(whole, tmp_path / 'elsewhere', output)
  assert (tmp_path / 'elsewhere/best_config.py').exists()
  assert f'--config={tmp_path}/elsewhere/best_config.py' in output.read_text()
