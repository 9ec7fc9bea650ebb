"""The table of docs/fusion.md is that of the code."""

import re
from pathlib import Path

import pytest

from benchmarks import fusion_costs
from mmjax import fusion

PAGE = Path(__file__).parents[2] / 'docs' / 'fusion.md'


def read_rows():
  """Cells by name, of the table on the page."""
  table = PAGE.read_text().partition('## Parameters and cost')[2]
  lines = table.partition('\n## ')[0].splitlines()
  cells = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in lines
    if line.startswith('| `')
  ]
  return {row[0].strip('`'): row[1:] for row in cells}


def test_every_fusion_is_on_the_page_with_its_parameters():
  rows = read_rows()
  assert list(rows) == list(fusion.FUSIONS)
  for name, cells in rows.items():
    counted = [
      f'{fusion_costs.count_parameters(name, *size):,}'
      for size in fusion_costs.SIZES[:3]
    ]
    assert cells[:3] == counted, name


@pytest.mark.parametrize('name', ['tensor', 'cross_attention', 'voting'])
def test_operations_are_about_those_of_the_page(name):
  shown = [float(cell) for cell in read_rows()[name][3:]]
  for number, size in zip(shown, fusion_costs.SIZES, strict=True):
    counted = fusion_costs.count_operations(name, *size) / 1e6
    # Two digits are shown, and versions of jax count slightly differently.
    assert counted == pytest.approx(number, rel=0.15), size


def test_the_example_of_the_page_runs(capsys):
  blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
  (example,) = [block for block in blocks if 'import jax' in block]
  exec(compile(example, 'fusion.md', 'exec'), {})
  assert example.strip().endswith(f'# {capsys.readouterr().out.strip()}')


def test_every_name_is_explained():
  text = PAGE.read_text().partition('## Parameters and cost')[0]
  missing = [name for name in fusion.FUSIONS if f'`{name}`' not in text]
  assert not missing
