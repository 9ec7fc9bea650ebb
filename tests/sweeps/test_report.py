"""What the report of a sweep contains."""

import optuna
import trivial

from mmjax.sweeps import load, report, study

State = optuna.trial.TrialState


def _filled(tmp_path, trials, **more):
  """Optuna's study of a sweep, with trials by hand: (state, steps, facts)."""
  loaded = load.load(trivial.write(tmp_path, trials=len(trials), **more))
  whole = study.Study(loaded, 'journal', tmp_path / 'lr').optuna
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


def test_what_pruning_saved(tmp_path):
  # Of 9 steps each; one diverged, one failed.
  whole = _filled(
    tmp_path,
    [
      (State.COMPLETE, 9, {}),
      (State.PRUNED, 3, {}),
      (State.PRUNED, 2, {'reason': 'loss=nan'}),
      (State.FAIL, 1, {}),
    ],
    pruner="'median'",
  )
  output = tmp_path / 'report.html'
  report.write(whole, tmp_path / 'lr', output)
  assert (
    'The 4 trials that ended trained 15 steps in 0:30; train.steps of each '
    'would be 36.'
  ) in output.read_text()


def test_the_files_that_the_commands_name_are_written(tmp_path):
  whole = _filled(tmp_path, [(State.COMPLETE, 9, {})])
  output = tmp_path / 'report.html'
  report.write(whole, tmp_path / 'elsewhere', output)
  assert (tmp_path / 'elsewhere/best_config.py').exists()
  assert f'--config={tmp_path}/elsewhere/best_config.py' in output.read_text()
