"""A sweep as one HTML file that needs nothing else."""

import html
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError
from mmjax.sweeps import best, table
from mmjax.train import progress

State = optuna.trial.TrialState
_FRONT = {'name': 'Best Trial'}  # Optuna's name of these points.
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
  text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.best {{ font-weight: bold; background: #eef6ee; }}
pre {{ background: #f4f4f4; padding: 0.8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
.wide td {{ white-space: nowrap; }}
.wide td:last-child {{ white-space: normal; text-align: left;
  min-width: 16rem; }}
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
    workdir: its folder, to name in commands.
    output: the HTML file.

  Raises:
    ConfigError: if the study is no sweep's, or has no complete trial yet.
  """
  text = render(study, workdir)
  best.write(study, workdir)  # What the report's commands name.
  Path(output).write_text(text, encoding='utf-8')


def render(study: optuna.Study, workdir: Path | str) -> str:
  """The report's text; see `write`."""
  from plotly import offline

  if 'sweep' not in study.user_attrs:
    raise ConfigError(
      f'the study {study.study_name!r} was not made by experiments.sweep'
    )
  found = best.trials(study)
  if not found:
    raise ConfigError(
      f'{workdir} has no complete trial yet; the table of a running sweep '
      'shows how far it is'
    )
  body = [
    f'<h1>Sweep {_escaped(study.study_name)}</h1>',
    f'<p>{_escaped(table.summary(study))}.</p>',
    *_question(study),
    *_answers(study, found, workdir),
    *_figures(study),
    '<h2>All trials</h2>',
    _trial_table(study, {trial.number for trial in found}),
  ]
  return _PAGE.format(
    title=f'Sweep {_escaped(study.study_name)}',
    plotly=offline.get_plotlyjs(),
    body='\n'.join(body),
  )


def _question(study: optuna.Study) -> Iterator[str]:
  """What was varied, and how it was searched."""
  sweep, facts = study.user_attrs['sweep'], study.user_attrs
  goals = ' and '.join(
    f'{direction} {name}'
    for name, direction in zip(sweep['metric'], sweep['direction'], strict=True)
  )
  yield (
    f'<p>{_escaped(facts["file"])} varies {_escaped(facts["location"])} to '
    f'{_escaped(goals)}; sampler {_escaped(sweep["sampler"]["name"])}, pruner '
    f'{_escaped(sweep["pruner"]["name"])}, seed {sweep["seed"]}, '
    f'{sweep["repeats"]} run{"s" * (sweep["repeats"] > 1)} a point.</p>'
  )
  trials = study.get_trials(deepcopy=False)
  seconds = sum(trial.user_attrs.get('seconds', 0.0) for trial in trials)
  steps = sum(trial.user_attrs.get('steps', 0) for trial in trials)
  saved = ''
  if sweep['pruner']['name'] != 'none':
    left_out = sum(map(_left_out(study), trials))
    share = left_out / max(1, steps + left_out)
    saved = f'; pruning saved {share:.0%} of the steps'
  yield (
    f'<p>All trials together trained {steps:,} steps in '
    f'{progress.duration(seconds)}{saved}.</p>'
  )


def _left_out(
  study: optuna.Study,
) -> Callable[[optuna.trial.FrozenTrial], int]:
  """Trial -> steps of its own that a pruner spared it.

  Trials that diverged count as pruned too, but no pruner decided that.
  """
  sweep = study.user_attrs['sweep']

  def count(trial: optuna.trial.FrozenTrial) -> int:
    facts = trial.user_attrs
    decided = facts.get('asked', {}).get('pruned', False)
    if trial.state != State.PRUNED or not decided:
      return 0
    steps = facts['values'].get(
      'train.steps', sweep['config']['train']['steps']
    )
    return steps * sweep['repeats'] - facts['steps']

  return count


def _answers(
  study: optuna.Study,
  found: Sequence[optuna.trial.FrozenTrial],
  workdir: Path | str,
) -> Iterator[str]:
  """The best trials: what differs from the config, and how to repeat them."""
  noise = table.noise_of(study.get_trials(deepcopy=False))
  if noise is not None:
    yield (
      f'<p>Two runs of one point differ by a standard deviation of {noise:.3g} '
      f'in {_escaped(study.user_attrs["sweep"]["metric"][0])}: differences '
      'between points that are not larger say nothing.</p>'
    )
  location, shared = study.user_attrs['location'], []
  for trial in found:
    title = 'Best' if len(study.directions) == 1 else 'On the Pareto front'
    yield f'<h2>{title}: trial {trial.number}</h2>'
    yield f'<p>{_escaped(table.line(study, trial))}</p>'
    rows = []
    for path, old, new, searched in best.changes(study, trial):
      (rows if searched else shared).append((path, repr(old), repr(new)))
    yield _table(('field', f'in {location}', 'in this trial'), rows)
    yield f'<p>To train it anew: {best.cost(study, trial)}.</p>'
    yield f'<pre>{_escaped(best.command(study, trial, workdir))}</pre>'
  yield '<h2>What all trials have besides</h2>'
  header = ('field', f'in {location}', 'in all trials')
  yield _table(header, list(dict.fromkeys(shared)))


def _figures(study: optuna.Study) -> Iterator[str]:
  """Optuna's own figures, per metric where there are several."""
  import optuna.visualization as plots

  metrics = study.user_attrs['sweep']['metric']
  complete = study.get_trials(deepcopy=False, states=(State.COMPLETE,))
  if len(metrics) > 1:
    yield '<h2>Pareto front</h2>'
    front = plots.plot_pareto_front(study, target_names=metrics)
    marks = {'symbol': 'diamond', 'size': 11}
    yield _html(front.update_traces(marker=marks, selector=_FRONT))
  for i, name in enumerate(metrics):
    options: dict[str, Any] = {'target_name': name}
    if len(metrics) > 1:
      options['target'] = _value(i)
    kinds: list[tuple[str, Callable[..., Any]]] = [
      ('History', plots.plot_optimization_history),
      ('Parallel coordinates', plots.plot_parallel_coordinate),
      ('Slices', plots.plot_slice),
    ]
    # How much of the spread a field explains needs a spread.
    values = {trial.values[i] for trial in complete}
    if len(values) > 1:
      kinds.append(('Importances', plots.plot_param_importances))
    for title, plot in kinds:
      if title == 'Importances' and len(metrics) > 1:
        # It asks what makes a target small.
        up = study.directions[i] == optuna.study.StudyDirection.MAXIMIZE
        options['target'] = _value(i, -1 if up else 1)
      yield f'<h2>{title}: {_escaped(name)}</h2>'
      with warnings.catch_warnings():
        # That it wants small targets, which is seen to.
        warnings.filterwarnings('ignore', 'PedAnova')
        figure = plot(study, **options)
      yield _html(figure)
  if len(metrics) == 1:
    yield f'<h2>During training: {_escaped(metrics[0])}</h2>'
    reported = plots.plot_intermediate_values(study)
    yield _html(reported.update_layout(yaxis_title=metrics[0]))


def _value(
  i: int, sign: int = 1
) -> Callable[[optuna.trial.FrozenTrial], float]:
  return lambda trial: sign * trial.values[i]


def _trial_table(study: optuna.Study, chosen: set[int]) -> str:
  sweep = study.user_attrs['sweep']
  repeats = sweep['repeats'] > 1
  header = (
    'trial',
    'state',
    *sweep['metric'],
    *(['noise'] * repeats),
    'steps',
    'time',
    *sweep['space'],
    'reason',
  )
  rows = []
  for trial in study.get_trials(deepcopy=False):
    values = trial.values or [None] * len(sweep['metric'])
    runs = trial.user_attrs.get('runs', [[]])[0]
    noise = f'{statistics.stdev(runs):.2g}' if len(runs) > 1 else ''
    rows.append(
      (
        trial.number,
        trial.state.name.lower(),
        *('' if v is None else f'{v:.4g}' for v in values),
        *([noise] * repeats),
        trial.user_attrs.get('steps', trial.last_step or 0),
        progress.duration(trial.user_attrs.get('seconds', 0.0)),
        *(table.number(trial.params.get(p, '')) for p in sweep['space']),
        trial.user_attrs.get('reason', ''),
      )
    )
  return f'<div class="wide">{_table(header, rows, chosen)}</div>'


def _table(
  header: Sequence[str],
  rows: Sequence[Sequence[Any]],
  chosen: set[int] | frozenset[int] = frozenset(),
) -> str:
  """Rows whose first cell is in `chosen` stand out."""
  lines = [''.join(f'<th>{_escaped(name)}</th>' for name in header)]
  out = [f'<tr>{lines[0]}</tr>']
  for row in rows:
    cells = ''.join(f'<td>{_escaped(str(cell))}</td>' for cell in row)
    mark = ' class="best"' if row[0] in chosen else ''
    out.append(f'<tr{mark}>{cells}</tr>')
  return '<table>\n' + '\n'.join(out) + '\n</table>'


def _html(figure: Any) -> str:
  # The page has a title above it, and slices of many fields are wide.
  figure.update_layout(title=None, margin_t=40)
  # Colours begin at white.
  figure.update_traces(marker_line_color='#444', selector={'mode': 'markers'})
  drawn = figure.to_html(
    full_html=False, include_plotlyjs=False, config={'displaylogo': False}
  )
  return f'<div class="wide">{drawn}</div>'


def _escaped(text: str) -> str:
  return html.escape(text)
