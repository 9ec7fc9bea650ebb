"""A sweep as one HTML file that needs no other file."""

import html
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError
from mmjax.sweeps import best, status
from mmjax.training import progress

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
  """Writes the report, and the best config, as `best.write` does.

  Args:
    study: the sweep's.
    workdir: its folder, for the commands in the report.
    output: the HTML file.

  Raises:
    ConfigError: if the study is not a sweep's, or has no complete trial yet.
  """
  if 'sweep' not in study.user_attrs:
    raise ConfigError(
      f'the study {study.study_name!r} was not made by `mmjax sweep`'
    )
  chosen = best.find(study)
  if chosen is None:
    raise ConfigError(f'{workdir} has no complete trial yet; wait for one')
  best.write(study, workdir)  # The file that the command names.
  body = [_text('p', line) for line in _search(study)]
  body.append(_text('h2', f'Best: trial {chosen.number}'))
  body.append(_text('pre', best.description(study, chosen, workdir)))
  for i, (title, figure) in enumerate(_figures(study)):
    figure.update_layout(title=None)
    body.append(_text('h2', title))
    # The first one brings the script of all.
    body.append(figure.to_html(full_html=False, include_plotlyjs=not i))
  lines = [status.line(study, trial) for trial in status.begun(study)]
  body += [_text('h2', 'All trials'), _text('pre', '\n'.join(lines))]
  name = html.escape(study.study_name)
  text = _PAGE.format(name=name, body='\n'.join(body))
  Path(output).write_text(text, encoding='utf-8')


def _text(tag: str, text: str) -> str:
  return f'<{tag}>{html.escape(text)}</{tag}>'


def _search(study: optuna.Study) -> Iterator[str]:
  """What was varied, how it was searched, and the cost."""
  sweep, trials = study.user_attrs['sweep'], status.begun(study)
  yield f'{status.summary(study)}.'
  yield (
    f'{sweep["file"]} varies {sweep["config"]} to {sweep["direction"]} '
    f'{sweep["metric"]}; sampler {sweep["sampler"]["name"]}, pruner '
    f'{sweep["pruner"]["name"]}, seed {sweep["seed"]}.'
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
  """Optuna's figures with their titles."""
  import optuna.visualization as plots

  name = study.user_attrs['sweep']['metric']
  figures = {
    'History': plots.plot_optimization_history,
    'Parallel coordinates': plots.plot_parallel_coordinate,
    'Slices': plots.plot_slice,
  }
  states = (optuna.trial.TrialState.COMPLETE,)
  complete = study.get_trials(deepcopy=False, states=states)
  # Importances explain a variance, so that there must be one.
  if len({trial.value for trial in complete}) > 1:
    figures['Importances'] = plots.plot_param_importances
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
    for title, plot in figures.items():
      yield f'{title}: {name}', plot(study, target_name=name)
  curves = plots.plot_intermediate_values(study)
  curves.update_layout(yaxis_title=name)
  yield f'During training: {name}', curves
