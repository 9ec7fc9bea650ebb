"""The site of the docs: its pages, links and references exist."""

import importlib
import re
import unicodedata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [*sorted(ROOT.glob('*.md')), *sorted(DOCS.rglob('*.md'))]
_LINK = re.compile(r'\]\(([^)\s]+)\)')


def _anchor(heading):
  """The anchor of a heading, as GitHub and Python-Markdown make it."""
  text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
  text = unicodedata.normalize('NFKC', text).lower()
  return re.sub(r'\s', '-', re.sub(r'[^\w\s-]', '', text).strip())


def _without_code(page):
  fence = re.compile(r'^ *```.*?^ *```$', re.DOTALL | re.MULTILINE)
  return fence.sub('', page.read_text())


def _anchors(page):
  headings = re.findall(r'^#+ (.*)$', _without_code(page), re.MULTILINE)
  return {_anchor(heading) for heading in headings}


def _walk(nav):
  for entry in nav:
    for value in entry.values() if isinstance(entry, dict) else [entry]:
      yield from [value] if isinstance(value, str) else _walk(value)


def test_every_page_is_in_the_navigation_once():
  config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
  pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob('*.md')}
  listed = list(_walk(config['nav']))
  assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
  for link in _LINK.findall(_without_code(page)):
    if link.startswith('https://'):
      continue
    path, _, anchor = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), link
    # The site has the docs alone.
    is_in_docs = target.is_relative_to(DOCS) and page.is_relative_to(DOCS)
    assert is_in_docs or not page.is_relative_to(DOCS), link
    if anchor and target.suffix == '.md':
      assert anchor in _anchors(target), link


def test_the_reference_names_modules_with_docstrings():
  pages = sorted((DOCS / 'reference').glob('*.md'))
  named = [
    name
    for page in pages
    for name in re.findall(r'^::: (\S+)$', page.read_text(), re.MULTILINE)
  ]
  assert len(named) == len({*named}) >= 25
  for name in named:
    assert importlib.import_module(name).__doc__, name


def test_pictures_are_small():
  pictures = sorted((DOCS / 'images').iterdir())
  assert pictures
  for picture in pictures:
    assert picture.stat().st_size < 200_000, picture
