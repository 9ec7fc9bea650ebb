"""`mmjax report`: prints the test results of runs in one table."""

import pathlib

from mmjax.cli import arguments
from mmjax.config import settings
from mmjax.errors import ConfigError

# Label, and names in results.json of the value, of chance and of the blind
# baseline.
_KNOWN = (
  (
    'image to text R@1',
    'retrieval/image_to_text_r1',
    'retrieval/chance_r1',
    None,
  ),
  (
    'text to image R@1',
    'retrieval/text_to_image_r1',
    'retrieval/chance_r1',
    None,
  ),
  ('exact captions', 'captions/exact', 'captions/chance_exact', None),
  ('objects named right', 'captions/objects', 'captions/chance_objects', None),
  (
    'right answers',
    'vqa/accuracy',
    'vqa/majority_accuracy',
    'vqa/blind_accuracy',
  ),
)


def main(argv: list[str]) -> int:
  """Prints results next to chance and to the blind baseline.

  Unfinished runs are listed with their state.

  Raises:
    ConfigError: if a folder has no run; the others are printed first.
  """
  parser = arguments.Parser(
    prog='mmjax report',
    description='Test results of finished runs, next to chance (for answers: '
    'the commonest one of the question type) and to the blind baseline, which '
    'is trained without images. Unfinished runs are listed below.',
  )
  parser.add_argument(
    'workdir', nargs='+', help="a run's folder, or a folder of runs"
  )
  args = parser.parse_args(argv)
  from rich import box, console, table

  from mmjax.runs import status

  out = table.Table(box=box.SIMPLE_HEAD)
  out.add_column('run')
  out.add_column('split')
  out.add_column('measured')
  for column in ('model', 'chance', 'blind'):
    out.add_column(column, justify='right')
  samples, errors, unfinished = [], [], []
  for workdir in _runs(args.workdir):
    try:
      state = status.describe(workdir)
      if state is not None:
        unfinished.append(f'  {workdir.name}  {state}')
        continue
      rows = _rows(workdir)
    except ValueError as error:
      errors.append(str(error))
      continue
    for i, (split, name, *values) in enumerate(rows):
      cells = ['' if v is None else f'{v:.3f}' for v in values]
      out.add_row(workdir.name if i == 0 else '', split, name, *cells)
    out.add_section()
    samples += sorted((workdir / 'samples').glob('test_*.png'))
  if out.rows:
    console.Console(highlight=False).print(out)
  if unfinished:
    print('unfinished:')
    print('\n'.join(unfinished))
  if samples:
    print('samples:')
    for path in samples:
      print(f'  {path}')
  if errors:
    raise ConfigError('\n'.join(errors))
  return 0


def table_rows(results: dict[str, float]):
  """Yields (split, label, value, chance, blind) for each known test result."""
  matches = [
    (name.removesuffix(row[1]), i, row)
    for name in results
    for i, row in enumerate(_KNOWN)
    if name.startswith('test/') and name.endswith(f'/{row[1]}')
  ]
  # 'test/' itself first, then splits by name.
  for prefix, _, (label, name, chance, blind) in sorted(matches):
    split = prefix.removeprefix('test/').rstrip('/') or 'test'
    yield (
      split,
      label,
      results[prefix + name],
      results.get(prefix + chance),
      results.get(prefix + blind) if blind else None,
    )


def _runs(folders: list[str]) -> list[pathlib.Path]:
  """Folders of runs; a folder of runs is replaced by the runs in it."""
  runs = []
  for folder in map(pathlib.Path, folders):
    inside = sorted(path for path in folder.glob('*/') if _is_run(path))
    runs += [folder] if _is_run(folder) or not inside else inside
  return runs


def _is_run(folder: pathlib.Path) -> bool:
  """Whether a folder is a run's, or a blind baseline trains in it first."""
  names = 'results.json', 'config.json', 'blind/config.json'
  return any((folder / name).is_file() for name in names)


def _rows(workdir: pathlib.Path) -> list[tuple]:
  path = workdir / 'results.json'
  if not path.exists():
    raise ConfigError(f"{path} does not exist; this is not a run's folder")
  rows = list(table_rows(settings.read_json(path)))
  if not rows:
    raise ConfigError(f'{path} has no test results')
  return rows
