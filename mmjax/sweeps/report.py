"""A sweep as one HTML file that needs no other file."""

import html
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna

from mmjax.sweeps import best, status
from mmjax.train import progress
from mmjax.train.settings import UserError

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: 0.2rem 0.8rem; border-bottom: 1px solid #ddd;
  text-align: left; }}
tr.best {{ font-weight: bold; background: #eef6ee; }}
pre {{ background: #f4f4f4; padding: 0.8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
</style>
<script>{plotly}</script>
</head>
<body>
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
    UserError: if the study is not a sweep's, or has no complete trial yet.
  """
  text = render(study, workdir)
  best.write(study, workdir)  # The files that the commands name.
  Path(output).write_text(text, encoding='utf-8')


def render(study: optuna.Study, workdir: Path | str) -> str:
  """The report's text; see `write`."""
  from plotly import offline

  if 'sweep' not in study.user_attrs:
    raise UserError(
      f'the study {study.study_name!r} was not made by experiments.sweep'
    )
  chosen = best.trials(study)
  if not chosen:
    raise UserError(
      f'{workdir} has no complete trial yet; the running sweep prints how far '
      'it is'
    )
  title = f'Sweep {html.escape(study.study_name)}'
  body = [
    f'<h1>{title}</h1>',
    f'<p>{html.escape(status.summary(study))}.</p>',
    *_search(study),
    *_best_trials(study, chosen, workdir),
    *_figures(study),
    '<h2>All trials</h2>',
    _trial_table(study, {trial.number for trial in chosen}),
  ]
  return _PAGE.format(
    title=title, plotly=offline.get_plotlyjs(), body='\n'.join(body)
  )


def _search(study: optuna.Study) -> Iterator[str]:
  """What was varied, how it was searched, and the cost."""
  sweep, facts = study.user_attrs['sweep'], study.user_attrs
  goals = ' and '.join(
    f'{direction} {name}'
    for name, direction in zip(sweep['metric'], sweep['direction'], strict=True)
  )
  plural = 's' * (sweep['repeats'] > 1)
  text = (
    f'{facts["file"]} varies {facts["location"]} to {goals}; sampler '
    f'{sweep["sampler"]["name"]}, pruner {sweep["pruner"]["name"]}, seed '
    f'{sweep["seed"]}, {sweep["repeats"]} run{plural} a point.'
  )
  yield f'<p>{html.escape(text)}</p>'
  trials, _ = status.begun(study)
  seconds = sum(trial.user_attrs.get('seconds', 0.0) for trial in trials)
  steps = sum(trial.user_attrs.get('steps', 0) for trial in trials)
  saved = ''
  if sweep['pruner']['name'] != 'none':
    left_out = sum(_steps_pruned(sweep, trial) for trial in trials)
    fraction = left_out / max(1, steps + left_out)
    saved = f'; pruning saved {fraction:.0%} of the steps'
  yield (
    f'<p>All trials together trained {steps:,} steps in '
    f'{progress.duration(seconds)}{saved}.</p>'
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


def _best_trials(
  study: optuna.Study, chosen: Sequence[Frozen], workdir: Path | str
) -> Iterator[str]:
  """What differs from the config, and how to train it again."""
  noise = status.run_noise(study.get_trials(deepcopy=False))
  if noise is not None:
    metric = html.escape(study.user_attrs['sweep']['metric'][0])
    yield (
      f'<p>Two runs of one point differ by a standard deviation of {noise:.3g} '
      f'in {metric}: smaller differences between points are not significant.'
      '</p>'
    )
  single = len(study.directions) == 1
  header = ('field', f'in {study.user_attrs["location"]}')
  for trial in chosen:
    title = 'Best' if single else 'On the Pareto front'
    yield f'<h2>{title}: trial {trial.number}</h2>'
    yield f'<p>{html.escape(status.line(study, trial))}</p>'
    yield _changes((*header, 'in this trial'), best.searched(study, trial))
    yield f'<p>To train it again: {best.cost(study, trial)}.</p>'
    yield f'<pre>{html.escape(best.command(study, trial, workdir))}</pre>'
  yield '<h2>The same in all trials</h2>'
  yield _changes((*header, 'in all trials'), best.shared(study))


def _figures(study: optuna.Study) -> Iterator[str]:
  """Optuna's figures, of each metric."""
  import optuna.visualization as plots

  metrics = study.user_attrs['sweep']['metric']
  complete = study.get_trials(deepcopy=False, states=(State.COMPLETE,))
  if len(metrics) > 1:
    yield _figure(
      'Pareto front', plots.plot_pareto_front(study, target_names=metrics)
    )
  for i, name in enumerate(metrics):
    options: dict[str, Any] = {'target_name': name}
    if len(metrics) > 1:
      options['target'] = _metric(i)
    for title, plot in (
      ('History', plots.plot_optimization_history),
      ('Parallel coordinates', plots.plot_parallel_coordinate),
      ('Slices', plots.plot_slice),
    ):
      yield _figure(f'{title}: {name}', plot(study, **options))
    # Importances explain a variance, so that there must be one.
    if len({trial.values[i] for trial in complete}) > 1:
      if len(metrics) > 1:
        # Of several metrics, they explain what makes one small.
        up = study.directions[i] == optuna.study.StudyDirection.MAXIMIZE
        options['target'] = _metric(i, sign=-1 if up else 1)
      with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'PedAnova')  # That it does so.
        figure = plots.plot_param_importances(study, **options)
      yield _figure(f'Importances: {name}', figure)
  if len(metrics) == 1:
    figure = plots.plot_intermediate_values(study)
    figure.update_layout(yaxis_title=metrics[0])
    yield _figure(f'During training: {metrics[0]}', figure)


def _metric(i: int, sign: int = 1) -> Callable[[Frozen], float]:
  return lambda trial: sign * trial.values[i]


def _figure(title: str, figure: Any) -> str:
  # The page has the title above it.
  figure.update_layout(title=None, margin_t=40)
  drawn = figure.to_html(
    full_html=False, include_plotlyjs=False, config={'displaylogo': False}
  )
  return f'<h2>{html.escape(title)}</h2>\n<div class="wide">{drawn}</div>'


def _trial_table(study: optuna.Study, chosen: set[int]) -> str:
  sweep = study.user_attrs['sweep']
  names = (*sweep['metric'], 'noise', 'steps', 'time', *sweep['space'])
  rows = []
  for trial in status.begun(study)[0]:
    values = trial.values or [None] * len(sweep['metric'])
    facts = trial.user_attrs
    runs = facts.get('runs', [[]])[0]
    rows.append(
      (
        trial.number,
        trial.state.name.lower(),
        *('' if v is None else f'{v:.4g}' for v in values),
        f'{statistics.stdev(runs):.2g}' if len(runs) > 1 else '',
        facts.get('steps', trial.last_step or 0),
        progress.duration(facts.get('seconds', 0.0)),
        *(status.short(trial.params.get(p, '')) for p in sweep['space']),
        facts.get('reason', ''),
      )
    )
  return _table(('trial', 'state', *names, 'reason'), rows, chosen)


def _changes(header: Sequence[str], changes: Sequence[best.Change]) -> str:
  rows = [(path, repr(old), repr(new)) for path, old, new in changes]
  return _table(header, rows)


def _table(
  header: Sequence[str],
  rows: Sequence[Sequence[Any]],
  chosen: set[int] | frozenset[int] = frozenset(),
) -> str:
  """A table whose rows stand out if their first cell is in `chosen`."""
  out = [''.join(f'<th>{html.escape(name)}</th>' for name in header)]
  out[0] = f'<tr>{out[0]}</tr>'
  for row in rows:
    cells = ''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)
    mark = ' class="best"' if row[0] in chosen else ''
    out.append(f'<tr{mark}>{cells}</tr>')
  return '<div class="wide"><table>\n' + '\n'.join(out) + '\n</table></div>'
