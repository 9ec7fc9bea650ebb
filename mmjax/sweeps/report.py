"""A sweep as one HTML file that needs no other file."""

import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError
from mmjax.sweeps import best, status
from mmjax.train import progress

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sweep {name}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }}
pre {{ background: #f4f4f4; padding: 0.8rem; overflow-x: auto; }}
</style>
<script>{plotly}</script>
</head>
<body>
<h1>Sweep {name}</h1>
{body}
</body>
</html>
"""


def write(study: optuna.Study, workdir: Path | str, output: Path | str) -> None:
  """Writes the report, and the best configs, as `best.write` does.

  Args:
    study: the sweep's.
    workdir: its folder, for the commands in the report.
    output: the HTML file.

  Raises:
    ConfigError: if the study is not a sweep's, or has no complete trial yet.
  """
  text = render(study, workdir)
  best.write(study, workdir)  # The files that the commands name.
  Path(output).write_text(text, encoding='utf-8')


def render(study: optuna.Study, workdir: Path | str) -> str:
  """The report's text; see `write`."""
  from plotly import offline

  if 'sweep' not in study.user_attrs:
    raise ConfigError(
      f'the study {study.study_name!r} was not made by experiments.sweep'
    )
  chosen = best.trials(study)
  if not chosen:
    raise ConfigError(
      f'{workdir} has no complete trial yet; the running sweep prints how far '
      'it is'
    )
  body = [_text('p', line) for line in _search(study)]
  for trial in chosen:
    title = 'Best' if len(study.directions) == 1 else 'On the Pareto front'
    body.append(_text('h2', f'{title}: trial {trial.number}'))
    body.append(_text('pre', best.description(study, trial, workdir)))
  for title, figure in _figures(study):
    figure.update_layout(title=None)
    body.append(_text('h2', title))
    body.append(figure.to_html(full_html=False, include_plotlyjs=False))
  lines = [status.line(study, trial) for trial in status.begun(study)[0]]
  body += [_text('h2', 'All trials'), _text('pre', '\n'.join(lines))]
  return _PAGE.format(
    name=html.escape(study.study_name),
    plotly=offline.get_plotlyjs(),
    body='\n'.join(body),
  )


def _text(tag: str, text: str) -> str:
  return f'<{tag}>{html.escape(text)}</{tag}>'


def _search(study: optuna.Study) -> Iterator[str]:
  """What was varied, how it was searched, the cost, and the noise."""
  facts, sweep = study.user_attrs, study.user_attrs['sweep']
  yield f'{status.summary(study)}.'
  goals = ' and '.join(
    f'{direction} {name}'
    for name, direction in zip(sweep['metric'], sweep['direction'], strict=True)
  )
  yield (
    f'{facts["file"]} varies {facts["location"]} to {goals}; sampler '
    f'{sweep["sampler"]["name"]}, pruner {sweep["pruner"]["name"]}, seed '
    f'{sweep["seed"]}, runs of each point: {sweep["repeats"]}.'
  )
  trials, _ = status.begun(study)
  seconds = sum(trial.user_attrs.get('seconds', 0.0) for trial in trials)
  steps = sum(trial.user_attrs.get('steps', 0) for trial in trials)
  saved = ''
  if sweep['pruner']['name'] != 'none':
    pruned = sum(_steps_pruned(sweep, trial) for trial in trials)
    saved = (
      f'; pruning saved {pruned / max(1, steps + pruned):.0%} of the steps'
    )
  took = progress.duration(seconds)
  yield f'All trials together trained {steps:,} steps in {took}{saved}.'
  noise = status.run_noise(trials)
  if noise is not None:
    yield (
      f'Two runs of one point differ by a standard deviation of {noise:.3g} in '
      f'{sweep["metric"][0]}: smaller differences between points are not '
      'significant.'
    )


def _steps_pruned(sweep: dict[str, Any], trial: Frozen) -> int:
  """Steps that the pruner spared a trial.

  A trial that diverged is pruned too, with a reason, but not by the pruner.
  """
  facts = trial.user_attrs
  if trial.state != State.PRUNED or 'reason' in facts:
    return 0
  steps = facts['values'].get('train.steps', sweep['config']['train']['steps'])
  return steps * sweep['repeats'] - facts['steps']


def _figures(study: optuna.Study) -> Iterator[tuple[str, Any]]:
  """Optuna's figures with their titles, of each metric."""
  import optuna.visualization as plots

  metrics = study.user_attrs['sweep']['metric']
  complete = study.get_trials(deepcopy=False, states=(State.COMPLETE,))
  if len(metrics) > 1:
    front = plots.plot_pareto_front(study, target_names=metrics)
    yield 'Pareto front', front
  for i, name in enumerate(metrics):
    options: dict[str, Any] = {'target_name': name}
    if len(metrics) > 1:
      options['target'] = _metric(i)
    for title, plot in (
      ('History', plots.plot_optimization_history),
      ('Parallel coordinates', plots.plot_parallel_coordinate),
      ('Slices', plots.plot_slice),
    ):
      yield f'{title}: {name}', plot(study, **options)
    # Importances explain a variance, so that there must be one.
    if len({trial.values[i] for trial in complete}) > 1:
      if len(metrics) > 1:
        # Of several metrics, they explain what makes one small.
        up = study.directions[i] == optuna.study.StudyDirection.MAXIMIZE
        options['target'] = _metric(i, sign=-1 if up else 1)
      with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'PedAnova')  # That it does so.
        figure = plots.plot_param_importances(study, **options)
      yield f'Importances: {name}', figure
  if len(metrics) == 1:
    figure = plots.plot_intermediate_values(study)
    figure.update_layout(yaxis_title=metrics[0])
    yield f'During training: {metrics[0]}', figure


def _metric(i: int, sign: int = 1) -> Callable[[Frozen], float]:
  return lambda trial: sign * trial.values[i]
