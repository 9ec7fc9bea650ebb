"""What is compiled between the steps of a run."""

import json

import jax
import pytest
import toy

from mmjax.training import experiment, prepared, runner


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
    lambda self, examples: jax.jit(lambda x: x + 1)(1.0),
  )
  printed, values = run()
  # Step 1 compiles anyway, and evaluations, as after step 3, may.
  assert [values[step] for step in (1, 2, 4, 6)] == [None, 1, 3, 5]
  for number, step in ((1, 2), (2, 4), (2, 6)):
    assert f'warning: {number} programs were compiled' in printed
    assert f'at step {step};' in printed


def test_batches_of_every_length_have_as_many_tokens(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(tmp_path / 'xla'))
  seen = []
  update = prepared._update
  monkeypatch.setattr(
    prepared,
    '_update',
    lambda compiled, frozen, state, batch: (
      seen.append(batch['image'].shape)
      or update(compiled, frozen, state, batch)
    ),
  )
  whole = train_on_lengths(tmp_path / 'whole', 6)
  # 4 images of 9 patches; of 4 patches 36 // 4, rounded to two micro-batches.
  assert sorted(seen) == [(4, 9, 12)] * 3 + [(8, 4, 12)] * 3
  for shape, row in zip(seen, whole, strict=True):
    assert row['count/contrastive'] == shape[0]
    assert row['examples_per_second'] * row['step_time'] == pytest.approx(
      shape[0]
    )
  train_on_lengths(tmp_path / 'part', 3)
  rows = whole[:3] + train_on_lengths(tmp_path / 'part', 6)[3:]
  assert [row['loss'] for row in rows] == [row['loss'] for row in whole]
  assert seen[:6] == seen[6:]
  printed = capsys.readouterr().out
  assert 'for batches of 2 shapes' in printed and 'were compiled' not in printed


def train_on_lengths(workdir, steps):
  """Trains on images of any aspect ratio; the metrics of each step."""
  sizes = {'width': 4, 'depth': 1, 'num_heads': 1, 'mlp_dim': 4}
  config = {
    'data': {
      'name': 'synthetic',
      'text_length': 5,
      'features': {
        'image': {
          'kind': 'flexible_image',
          'patch_size': 2,
          'tokens': 9,
          'lengths': (4, 9),
          'constant_tokens': True,
        }
      },
    },
    'model': {
      'name': 'dual_encoder',
      'embed_dim': 4,
      'image': {
        'name': 'flexible_vit',
        'patch_size': 2,
        'position_grid': (3, 3),
        **sizes,
      },
      'text': {'name': 'transformer', **sizes},
    },
    'tasks': {'contrastive': {}},
    'optimizer': {'schedule': 'constant'},
    'train': {
      'steps': steps,
      'batch_size': 4,
      'accumulate': 2,
      'log_every': 1,
      'tensorboard': False,
    },
    'eval': {'num_examples': 4, 'batch_size': 2},
  }
  runner.run(config, experiment.Builder(), workdir)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [row for row in map(json.loads, lines) if 'loss' in row]
