"""A sweep from the command line: two workers, a table, the best config."""

import os
import pathlib
import subprocess
import sys

import pytest

from mmjax.config import overrides, settings
from mmjax.data import builders, shapes

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = """
def get_sweep():
  return dict(
    config='configs/contrastive_shapes.py',
    set={{
      'data.name': 'shapes/tiny',
      'data.extra_splits': (),
      'train.steps': 2,
      'train.batch_size': 4,
      'train.eval_every': 0,
      'train.keep_best': '',
      'train.tensorboard': False,
      'optimizer.warmup_steps': 1,
      'eval.batch_size': 4,
      'eval.num_examples': 4,
      'model.embed_dim': 8,
      'model.image.width': 16,
      'model.image.stages': (1,),
      'model.text.depth': 1,
      'model.text.mlp_dim': 16,
    }},
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={{'model.text.width': choice({widths})}},
    sampler='grid',
  )
"""


def _sweep(tmp_path, widths, *flags):
  file = tmp_path / 'widths.py'
  file.write_text(SWEEP.format(widths=widths))
  command = [
    *(sys.executable, '-m', 'experiments.sweep', f'--sweep={file}'),
    *(f'--workdir={tmp_path / "sweep"}', f'--data_dir={tmp_path / "data"}'),
    *flags,
  ]
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
    'MMJAX_CACHE_DIR': str(tmp_path / 'xla'),
  }
  return subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True
  )


@pytest.mark.slow
def test_a_sweep_from_the_command_line(tmp_path):
  config = shapes.ShapesConfig(
    'tiny', train=8, validation=4, test=4, compositional=4
  )
  make = lambda data_dir: shapes.Shapes(config=config, data_dir=data_dir)
  builders.build(make, tmp_path / 'data', progress=False)

  workers = min(2, len(os.sched_getaffinity(0)))
  done = _sweep(tmp_path, '8, 12', f'--workers={workers}')
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'trial 0 complete  val/retrieval/mean_r1' in done.stdout
  assert 'trial 1 complete  val/retrieval/mean_r1' in done.stdout
  best = overrides.load(str(tmp_path / 'sweep/best_config.py'))
  settings.validate(best)
  assert best.experiment == 'contrastive'
  for number in range(2):
    run = settings.from_json(tmp_path / f'sweep/trials/{number}/config.json')
    assert run.model.text.width in (8, 12)
