"""The examples in docstrings run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
  path
  for path in sorted((ROOT / 'mmjax').rglob('*.py'))
  if '>>> ' in path.read_text()
]
NAMES = ['.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in FILES]


def test_there_are_examples():
  assert NAMES


@pytest.mark.parametrize('name', NAMES)
def test_examples_run(name):
  found = doctest.testmod(importlib.import_module(name))
  assert found.failed == 0
  assert found.attempted > 0
