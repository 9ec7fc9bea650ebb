"""Eight devices compute what one computes, and take over each other's runs."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
EIGHT = {'data': -1, 'fsdp': 2, 'tensor': 2}


@pytest.fixture
def train(tmp_path_factory, monkeypatch):
  folder = tmp_path_factory.getbasetemp() / 'xla'
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(folder))
  monkeypatch.setenv('PYTHONPATH', str(ROOT))

  def run(workdir, number, mesh, steps=4):
    arguments = [str(number), json.dumps(mesh), str(workdir), str(steps)]
    script = ROOT / 'tests' / 'training' / 'devices.py'
    done = subprocess.run(
      [sys.executable, str(script), *arguments],
      capture_output=True,
      text=True,
      timeout=100,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

  return run


def _close(a, b):
  # Other orders of sums in float32, through four updates of AdamW.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b
  )


@pytest.mark.slow
def test_eight_devices_equal_one_and_restore_its_run(tmp_path, train):
  one = train(tmp_path / 'one', 1, {'data': -1})
  eight = train(tmp_path / 'eight', 8, EIGHT)
  _close(one['up']['kernel'], eight['up']['kernel'])
  _close(one['down']['kernel'], eight['down']['kernel'])
  # Two steps on eight devices, two more on one.
  train(tmp_path / 'moved', 8, EIGHT, steps=2)
  moved = train(tmp_path / 'moved', 1, {'data': -1})
  _close(one['up']['kernel'], moved['up']['kernel'])
