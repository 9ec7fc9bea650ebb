"""A published model opened on a mesh lies where the rules say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / 'tests' / 'pretrained' / 'golden'
# Of [L, D, H, K], [L, D, M], [V, D] and [L, D] with fsdp 4 and tensor 2.
PARTS = {
  'decoder/blocks/layers/attention/query/kernel': [2, 4, 2, 4],
  'decoder/blocks/layers/attention/out/kernel': [2, 2, 4, 4],
  'decoder/blocks/layers/mlp/up/kernel': [2, 4, 10],
  'decoder/blocks/layers/mlp/down/kernel': [2, 10, 4],
  'decoder/words/table/embedding': [6, 4],
  'decoder/blocks/layers/mlp_norm/scale': [2, 16],
}


@pytest.mark.slow
def test_parameters_arrive_where_they_are_asked_for():
  script = ROOT / 'tests' / 'parallel' / 'loading.py'
  done = subprocess.run(
    [sys.executable, str(script), str(GOLDEN / 'llama')],
    capture_output=True,
    text=True,
    timeout=200,
    check=False,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
  )
  assert done.returncode == 0, done.stderr
  output = json.loads(done.stdout.splitlines()[-1])
  assert all(leaf['same'] and leaf['devices'] == 8 for leaf in output.values())
  assert {path: output[path]['part'] for path in PARTS} == PARTS
  # Every matrix is spread; norms are whole.
  for path, leaf in output.items():
    assert ('fsdp' in leaf['spec']) == ('norm' not in path), (path, leaf)
