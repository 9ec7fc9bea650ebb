"""The notebooks run from their first cell to the last, outside of a clone."""

import ast
import json
from pathlib import Path

import jax
import matplotlib.figure
import pytest

from mmjax.data import prepare

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
CLIP = ROOT / 'tests/pretrained/golden/clip'
# Of the first run, which takes a minute.
SHORTER = 'steps=60, batch_size=64', 'steps=12, batch_size=8'


def _code(notebook):
  cells = json.loads(notebook.read_text())['cells']
  return [''.join(c['source']) for c in cells if c['cell_type'] == 'code']


def _run(cell, names):
  """Runs a cell; its last line's value, as a notebook shows it."""
  tree = ast.parse(cell)
  last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
  exec(compile(tree, 'cell', 'exec'), names)
  if last is not None:
    return eval(compile(ast.Expression(last.value), 'cell', 'eval'), names)
  return None


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """The folder of prepared data sets, with the one that they prepare."""
  folder = tmp_path_factory.mktemp('data')
  prepare.prepare('shapes/small', folder)
  return folder


@pytest.fixture
def shown(request, data, monkeypatch, tmp_path):
  """What the cells of a notebook show, and their names at the end."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  monkeypatch.setattr('tempfile.tempdir', None)
  monkeypatch.setenv('MODEL', str(CLIP))
  monkeypatch.setenv('MMJAX_DATA_DIR', str(data))
  names = {'__name__': '__main__'}
  cells = [cell.replace(*SHORTER) for cell in _code(request.param)]
  with jax.numpy_rank_promotion('allow'):  # As users have it.
    return [_run(cell, names) for cell in cells], names


def test_there_are_notebooks_without_outputs():
  assert [path.stem for path in NOTEBOOKS] == [
    'first_run',
    'own_encoder_and_loss',
    'published_model',
  ]
  for path in NOTEBOOKS:
    for cell in json.loads(path.read_text())['cells']:
      assert not cell.get('outputs'), path


@pytest.mark.slow
@pytest.mark.parametrize(
  'shown', NOTEBOOKS, ids=lambda path: path.stem, indirect=True
)
def test_a_notebook_runs(shown):
  values, names = shown
  history = names['history']
  assert history['loss'].steps[-1] == history.steps
  figures = [v for v in values if isinstance(v, matplotlib.figure.Figure)]
  for figure in figures:
    assert all(len(ax.lines) == 1 for ax in figure.axes)
