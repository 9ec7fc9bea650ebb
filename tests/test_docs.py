"""The examples in the pages on published models run as they stand."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / 'docs'
PAGES = sorted(DOCS.glob('pretrained_*.md'))


def test_there_are_pages():
  assert len(PAGES) == 7


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_examples_run(page, monkeypatch):
  monkeypatch.chdir(DOCS.parent)
  blocks = re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)
  assert blocks
  names = {}
  for block in blocks:
    exec(compile(block, str(page), 'exec'), names)
