"""A sweep as one HTML file that needs no other file."""

import html
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError
from mmjax.sweeps import best, status
from mmjax.train import progress

_PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<title>Sweep {name}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; }}
pre {{ background: #f4f4f4; padding: 0.8rem; overflow-x: auto; }}
</style>
<h1>Sweep {name}</h1>
{body}
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
  best.write(study, workdir)  # The files that the commands name.
  body = [_text('p', line) for line in _search(study)]
  for trial in chosen:
    title = 'Best' if len(study.directions) == 1 else 'On the Pareto front'
    body.append(_text('h2', f'{title}: trial {trial.number}'))
    body.append(_text('pre', best.description(study, trial, workdir)))
  for i, (title, figure) in enumerate(_figures(study)):
    figure.update_layout(title=None)
    body.append(_text('h2', title))
    # The first one brings the script of all.
    body.append(figure.to_html(full_html=False, include_plotlyjs=not i))
  lines = [status.line(study, trial) for trial in status.begun(study)[0]]
  body += [_text('h2', 'All trials'), _text('pre', '\n'.join(lines))]
  name = html.escape(study.study_name)
  text = _PAGE.format(name=name, body='\n'.join(body))
  Path(output).write_text(text, encoding='utf-8')


def _text(tag: str, text: str) -> str:
  return f'<{tag}>{html.escape(text)}</{tag}>'


def _search(study: optuna.Study) -> Iterator[str]:
  """What was varied, how it was searched, and the cost."""
  sweep, (trials, _) = study.user_attrs['sweep'], status.begun(study)
  yield f'{status.summary(study)}.'
  goals = zip(sweep['direction'], sweep['metric'], strict=True)
  yield (
    f'{sweep["file"]} varies {sweep["config"]} to '
    f'{" and ".join(map(" ".join, goals))}; sampler '
    f'{sweep["sampler"]["name"]}, pruner {sweep["pruner"]["name"]}, seed '
    f'{sweep["seed"]}.'
  )
  seconds = sum(trial.user_attrs.get('seconds', 0.0) for trial in trials)
  steps = sum(trial.user_attrs.get('steps', 0) for trial in trials)
  ended = sum(trial.state.is_finished() for trial in trials)
  whole = ended * sweep['base']['train']['steps']
  yield (
    f'The {ended} trials that ended trained {steps:,} steps in '
    f'{progress.duration(seconds)}; train.steps of each would be {whole:,}.'
  )


def _figures(study: optuna.Study) -> Iterator[tuple[str, Any]]:
  """Optuna's figures with their titles, of each metric."""
  import optuna.visualization as plots

  metrics = study.user_attrs['sweep']['metric']
  several = len(metrics) > 1
  if several:
    front = plots.plot_pareto_front(study, target_names=metrics)
    yield 'Pareto front', front
  for i, name in enumerate(metrics):
    target = (lambda trial, i=i: trial.values[i]) if several else None
    for title, plot in (
      ('History', plots.plot_optimization_history),
      ('Parallel coordinates', plots.plot_parallel_coordinate),
      ('Slices', plots.plot_slice),
    ):
      yield f'{title}: {name}', plot(study, target=target, target_name=name)
  if several:
    return
  states = (optuna.trial.TrialState.COMPLETE,)
  complete = study.get_trials(deepcopy=False, states=states)
  # Importances explain a variance, so that there must be one.
  if len({trial.value for trial in complete}) > 1:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
      importances = plots.plot_param_importances(study, target_name=metrics[0])
    yield f'Importances: {metrics[0]}', importances
  curves = plots.plot_intermediate_values(study)
  curves.update_layout(yaxis_title=metrics[0])
  yield f'During training: {metrics[0]}', curves
