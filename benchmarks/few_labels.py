"""Compares what learns from images without labels with labels alone.

Trains the variants of configs/few_labels_shapes.py with several seeds, the
teacher once, and prints the test accuracy of each: mean, and every seed. Runs
that are finished are not run again.

  mmjax data prepare shapes
  python benchmarks/few_labels.py --workdir=runs/few_labels --seeds=3
"""

import pathlib
import statistics

from absl import app, flags

from experiments import multimodal
from mmjax.config import overrides
from mmjax.train import loop

_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of runs', required=True)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'number of seeds')
_VARIANTS = flags.DEFINE_list(
  'variants', ['', 'fixmatch', 'mean_teacher', 'distill'], 'what to train'
)
_CONFIG = pathlib.Path(__file__).parents[1] / 'configs/few_labels_shapes.py'


def main(argv) -> None:
  """Prints a line for each variant."""
  del argv
  teacher = pathlib.Path(_WORKDIR.value) / 'teacher'
  rows = {'teacher': [_train('teacher', 0, teacher, teacher)]}
  for seed in range(_SEEDS.value):
    for variant in _VARIANTS.value:
      name = variant or 'labels'
      workdir = teacher.with_name(f'{name}_{seed}')
      accuracy = _train(variant, seed, workdir, teacher)
      rows.setdefault(name, []).append(accuracy)
  print('variant       mean   seeds')
  for name, found in rows.items():
    each = ' '.join(f'{accuracy:.3f}' for accuracy in found)
    print(f'{name:12}  {statistics.mean(found):.3f}  {each}')


def _train(
  variant: str, seed: int, workdir: pathlib.Path, teacher: pathlib.Path
) -> float:
  """Test accuracy of a run."""
  config = overrides.load(f'{_CONFIG}:{variant}')
  config.seed = seed
  if variant == 'distill':
    config.tasks.distill.teacher = str(teacher)
  results = loop.run(config, multimodal.build, workdir)
  return results['test/number/accuracy']


if __name__ == '__main__':
  app.run(main)
