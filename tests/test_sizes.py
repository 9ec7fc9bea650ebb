"""How large files and functions are, and how much one family imports."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
# Functions longer than that which there may be.
LONG_FUNCTIONS = 10


def _code():
  for folder in ('mmjax', 'experiments', 'configs', 'benchmarks', 'tests'):
    yield from sorted((ROOT / folder).rglob('*.py'))


def test_files_are_short():
  long = {
    str(path.relative_to(ROOT)): lines
    for path in _code()
    if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
  }
  assert not long


def test_functions_are_short():
  long = {}
  for folder in ('mmjax', 'experiments'):
    for path in sorted((ROOT / folder).rglob('*.py')):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
          lines = node.end_lineno - node.lineno + 1
          if lines > LONGEST_FUNCTION:
            long[f'{path.relative_to(ROOT)}:{node.name}'] = lines
  assert len(long) <= LONG_FUNCTIONS, long
