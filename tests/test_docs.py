"""The examples in README.md and in the docs run as they stand."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / 'docs'
PAGES = [
  DOCS / 'adapters.md',
  DOCS / 'encoders.md',
  *sorted(DOCS.glob('pretrained_*.md')),
]


def _blocks(page):
  return re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)


def test_there_are_pages():
  assert len(PAGES) == 9


@pytest.mark.slow
def test_the_module_of_the_readme_runs(capsys):
  # The last one downloads.
  block, step, fusion, _ = _blocks(DOCS.parent / 'README.md')
  names = {}
  for each in (block, step, fusion):
    exec(compile(each, 'README.md', 'exec'), names)
    printed = capsys.readouterr().out.strip()
    assert each is step or each.strip().endswith(f'# {printed}')
  assert names['value'].shape == ()


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_examples_run(page, monkeypatch):
  monkeypatch.chdir(DOCS.parent)
  blocks = _blocks(page)
  assert blocks
  names = {}
  for block in blocks:
    exec(compile(block, str(page), 'exec'), names)
