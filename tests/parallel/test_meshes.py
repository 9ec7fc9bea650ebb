"""Each objective gives one device's parameters on meshes and processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _largest(script, *arguments):
  """The differences that a script prints in its last line."""
  done = subprocess.run(
    [sys.executable, str(HERE / script), *arguments],
    capture_output=True,
    text=True,
    timeout=900,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  print(done.stdout)
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
  'objective',
  ['contrastive', 'captioning', 'vqa', 'few_labels', 'fields', 'drawn'],
)
def test_ten_steps_give_one_devices_parameters(objective):
  assert 0 < _largest('meshes.py', objective)[objective] < 1e-5


# All pairs: `python tests/parallel/processes.py 2`, and with 4.
@pytest.mark.slow
@pytest.mark.parametrize(
  ('processes', 'objective'),
  [(2, 'contrastive'), (4, 'captioning')],
)
def test_ten_steps_of_several_processes_give_one_processs_parameters(
  processes, objective
):
  largest = _largest('processes.py', str(processes), objective)
  assert 0 < largest[objective] < 1e-5
