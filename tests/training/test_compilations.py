"""What is compiled between the steps of a run."""

import json

import jax
import pytest
import toy

from mmjax.training import runner


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Runs the toy; what was printed, and `compilations` of the logged steps."""
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(tmp_path / 'xla'))

  def call():
    config = toy.config(eval_every=3, checkpoint_every=2)
    runner.run(config, toy.build, tmp_path / 'run')
    lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
    values = {
      row['step']: row.get('compilations') for row in map(json.loads, lines)
    }
    return capsys.readouterr().out, values

  return call


def test_nothing_is_compiled_after_the_first_step(run):
  printed, values = run()
  assert 'compiled' not in printed
  assert not any(values.values())


def test_what_is_compiled_between_steps_is_counted(run, monkeypatch):
  monkeypatch.setattr(
    'mmjax.training.progress.Meter.step',
    lambda self: jax.jit(lambda x: x + 1)(1.0),
  )
  printed, values = run()
  # Step 1 compiles anyway, and evaluations, as after step 3, may.
  assert [values[step] for step in (1, 2, 4, 6)] == [None, 1, 3, 5]
  for number, step in ((1, 2), (2, 4), (2, 6)):
    assert f'warning: {number} programs were compiled' in printed
    assert f'at step {step};' in printed
