"""`mmjax report`: prints the test results of runs in one table."""

import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmjax.cli import arguments
from mmjax.config import mixture, settings
from mmjax.errors import ConfigError, suggest_folder


def main(argv: list[str]) -> int:
  """Prints results next to a baseline and to the blind baseline.

  Unfinished runs are listed with their state.

  Raises:
    ConfigError: if a folder has no run; the others are printed first.
  """
  parser = arguments.Parser(
    prog='mmjax report',
    description='Test results of finished runs, next to a baseline (chance, '
    'or the best constant answer; for questions, the commonest answer of their '
    'type) and to the blind baseline, which is trained without images.'
    ' Unfinished runs are listed below.',
  )
  parser.add_argument(
    'workdir', nargs='+', help="a run's folder, or a folder of runs"
  )
  args = parser.parse_args(argv)
  from mmjax.runs import status

  shown = []
  samples, errors, unfinished, untested = [], [], [], []
  workdirs = _runs(args.workdir)
  names = _shortest_names(workdirs)
  for workdir in workdirs:
    try:
      state = status.describe(workdir)
      if state is not None:
        unfinished.append(f'  {names[workdir]}  {state}')
        continue
      rows = _rows(workdir)
      if not rows:
        untested.append(f'  {names[workdir]}')
    except ValueError as error:
      errors.append(str(error))
      continue
    shown += [
      (names[workdir] if i == 0 else '', *row) for i, row in enumerate(rows)
    ]
    samples += sorted((workdir / 'samples').glob('test_*.png'))
  if shown:
    print_table(shown)
  for title, lines in (
    ('unfinished:', unfinished),
    ('finished, without test results:', untested),
  ):
    if lines:
      print('\n'.join((title, *lines)))
  if samples:
    print('samples:')
    for path in samples:
      print(f'  {path}')
  if errors:
    raise ConfigError('\n'.join(errors))
  return 0


def print_table(
  rows: Iterable[tuple[str, str, str, float, float | None, float | None]],
) -> None:
  """Prints results: (run, split, measured, model, baseline, blind).

  Args:
    rows: a run is named in its first row alone, and is '' in the others.
  """
  from rich import box, console, table

  out = table.Table(box=box.SIMPLE_HEAD)
  for column in ('run', 'split', 'measured'):
    out.add_column(column)
  for column in ('model', 'baseline', 'blind'):
    out.add_column(column, justify='right')
  for run, split, name, *values in rows:
    if run and out.rows:
      out.add_section()
    cells = ['' if v is None else f'{v:.3f}' for v in values]
    out.add_row(run, split, name, *cells)
  console.Console(highlight=False).print(out)


def table_rows(results: Mapping[str, float], rows: Sequence[Any]):
  """Yields (split, label, value, baseline, blind) for each known test result.

  Args:
    results: numbers by name, as in results.json.
    rows: rows of the run's tasks, `mmjax.tasks.ReportRow`.
  """
  matches = [
    (name.removesuffix(row.metric), i)
    for name in results
    for i, row in enumerate(rows)
    if name.startswith('test/') and name.endswith(f'/{row.metric}')
  ]
  # 'test/' itself first, then splits by name.
  for prefix, i in sorted(matches):
    row = rows[i]
    split = prefix.removeprefix('test/').rstrip('/') or 'test'
    yield (
      split,
      f'{row.label} (lower is better)' if row.lower_is_better else row.label,
      results[prefix + row.metric],
      *(
        results.get(f'{prefix}{name}')
        for name in (row.baseline, row.blind_metric)
      ),
    )


def _runs(folders: list[str]) -> list[pathlib.Path]:
  """Folders of runs; a folder of runs is replaced by the runs in it."""
  runs = []
  for folder in map(pathlib.Path, folders):
    inside = sorted(path for path in folder.glob('*/') if _is_run(path))
    runs += [folder] if _is_run(folder) or not inside else inside
  return runs


def _shortest_names(
  workdirs: Sequence[pathlib.Path],
) -> dict[pathlib.Path, str]:
  """The last folders of each path, as many as distinguish the runs.

  >>> _shortest_names([pathlib.Path('old/lr/3'), pathlib.Path('new/lr/3')])
  {PosixPath('old/lr/3'): 'old/lr/3', PosixPath('new/lr/3'): 'new/lr/3'}
  """
  names = {}
  for workdir in workdirs:
    parts = workdir.absolute().parts
    others = [w.absolute().parts for w in workdirs if w != workdir]
    number = 1
    while number < len(parts) and any(
      other[-number:] == parts[-number:] for other in others
    ):
      number += 1
    names[workdir] = '/'.join(parts[-number:])
  return names


def _is_run(folder: pathlib.Path) -> bool:
  """Whether a folder is a run's, or a blind baseline trains in it first."""
  names = 'results.json', 'config.json', 'blind/config.json'
  return any((folder / name).is_file() for name in names)


def _rows(workdir: pathlib.Path) -> list[tuple]:
  path = workdir / 'results.json'
  if not workdir.is_dir():
    raise ConfigError(f'there is no folder {workdir}{suggest_folder(workdir)}')
  if not path.exists():
    raise ConfigError(f"{path} does not exist; this is not a run's folder")
  results = settings.read_json(path)
  return list(table_rows(results, _rows_of_tasks(workdir, results)))


def _rows_of_tasks(
  workdir: pathlib.Path, results: Mapping[str, float]
) -> list[Any]:
  """What the tasks of a run report, `mmjax.tasks.ReportRow`.

  Where a task names no rows, or its experiment is not found, its metrics have
  their own names.
  """
  path = workdir / 'config.json'
  if not path.exists():
    raise ConfigError(
      f"{path} does not exist, which says what was trained; put the run's "
      'config.json back'
    )
  # Models are imported late, so that mistaken arguments are refused at once.
  from mmjax import tasks as tasks_lib

  config = settings.complete(settings.from_json(path))
  known, config = _find_components(workdir, config)
  named = config.tasks.to_dict()
  found = {name: named[name] for name in named if name in known.task_table}
  built = {}
  if found:
    try:
      built = tasks_lib.build(found, known.task_table, blind=config.data.blind)
    except ConfigError as error:
      raise ConfigError(f'{path}: {error}') from error
  rows = [row for task in built.values() for row in task.report_rows]
  if len(found) < len(named) or not all(t.report_rows for t in built.values()):
    rows += _name_others(results, rows, _list_splits(config.data))
  return list(dict.fromkeys(rows))


def _find_components(workdir: pathlib.Path, config: Any) -> tuple[Any, Any]:
  """What a run's config can name, and the config; tasks alone matter."""
  from mmjax.config import components
  from mmjax.runs import experiment_record

  own = sorted(set(config.tasks) - set(components.BUILT_IN.task_table))
  if not own:
    return components.BUILT_IN, config
  try:
    config = experiment_record.read_config(workdir)
    return components.of(config), config
  except ConfigError as error:
    print(
      f'note: {workdir}: the metrics of {", ".join(own)} have their own names: '
      f'{error}',
      file=sys.stderr,
    )
    return components.BUILT_IN, config


def _list_splits(data: Any) -> list[str]:
  """Splits that are measured beside the test split, of a completed config."""
  extra = mixture.values(data, 'extra_splits')
  return [*(data.mixture or ()), *(name for names in extra for name in names)]


def _name_others(
  results: Mapping[str, float], rows: Sequence[Any], splits: Sequence[str]
) -> list[Any]:
  """Rows of the test metrics of evaluators that no other row is of."""
  from mmjax import tasks as tasks_lib

  # As '/vqa/', of 'vqa/accuracy'.
  evaluators = {f'/{row.metric}'.rpartition('/')[0] + '/' for row in rows}
  known = evaluators - {'/'}
  metrics = []
  for name in results:
    phase, _, metric = name.partition('/')
    split, _, rest = metric.partition('/')
    metric = rest if split in splits else metric
    if phase == 'test' and not any(e in f'/{metric}' for e in known):
      metrics.append(metric)
  return [tasks_lib.ReportRow(name, name) for name in dict.fromkeys(metrics)]
