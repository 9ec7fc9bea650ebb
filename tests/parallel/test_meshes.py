"""Each objective gives one device's parameters on several meshes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize('objective', ['contrastive', 'captioning', 'vqa'])
def test_ten_steps_give_one_devices_parameters(objective):
  script = Path(__file__).parent / 'meshes.py'
  done = subprocess.run(
    [sys.executable, str(script), objective],
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  largest = json.loads(done.stdout.splitlines()[-1])
  assert 0 < largest[objective] < 1e-5, done.stdout
