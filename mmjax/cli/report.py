"""`mmjax report`: the test results of runs in one table."""

import argparse
import json
import pathlib

# Number, what it is compared with by chance, and blind. Names in results.json.
_ROWS = (
  ('retrieval/image_to_text_r1', 'retrieval/chance_r1', None),
  ('retrieval/text_to_image_r1', 'retrieval/chance_r1', None),
  ('captions/exact', 'captions/chance_exact', None),
  ('vqa/accuracy', 'vqa/majority_accuracy', 'vqa/blind_accuracy'),
)


def main(argv: list[str]) -> int:
  """Prints results next to chance and to a model that sees no image.

  Raises:
    ValueError: if a folder holds no finished run.
  """
  parser = argparse.ArgumentParser(
    prog='mmjax report',
    description='Test results of finished runs, next to chance (for answers: '
    'the commonest one of the question type) and to a twin that sees no image.',
  )
  parser.add_argument('workdir', nargs='+', help="a run's folder")
  args = parser.parse_args(argv)
  from rich import box, console, table

  out = table.Table(box=box.SIMPLE_HEAD)
  out.add_column('run')
  out.add_column('test')
  for column in ('model', 'chance', 'blind'):
    out.add_column(column, justify='right')
  pictures = []
  for workdir in map(pathlib.Path, args.workdir):
    results = _results(workdir)
    rows = list(table_rows(results))
    if not rows:
      raise ValueError(f'{workdir}/results.json has no test results')
    for i, (name, *values) in enumerate(rows):
      cells = ['' if v is None else f'{v:.3f}' for v in values]
      out.add_row(workdir.name if i == 0 else '', name, *cells)
    out.add_section()
    pictures += sorted((workdir / 'samples').glob('test_*.png'))
  console.Console(highlight=False).print(out)
  if pictures:
    print('pictures:')
    for path in pictures:
      print(f'  {path}')
  return 0


def table_rows(results: dict[str, float]):
  """Yields (name, value, chance, blind) of what a run was tested on."""
  splits = ['test/']
  splits += sorted(
    {
      name.removesuffix(known)
      for name in results
      for known, _, _ in _ROWS
      if name.startswith('test/') and name.endswith(f'/{known}')
    }
    - {'test/'}
  )
  for split in splits:
    for name, chance, blind in _ROWS:
      if f'{split}{name}' in results:
        yield (
          f'{split}{name}'.removeprefix('test/'),
          results[f'{split}{name}'],
          results.get(f'{split}{chance}'),
          results.get(f'{split}{blind}') if blind else None,
        )


def _results(workdir: pathlib.Path) -> dict[str, float]:
  path = workdir / 'results.json'
  if not path.exists():
    raise ValueError(
      f'{path} is not there; the run has not been evaluated yet, or this is no '
      f"run's folder"
    )
  return json.loads(path.read_text())
