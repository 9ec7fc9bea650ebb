"""Compares what learns from images without labels with labels alone.

Trains the variants of configs/few_labels_shapes.py with several seeds, the
teacher of distillation once, and prints the test accuracy of each: mean,
standard deviation, the gain over labels alone, and every seed. The same command
resumes where it was stopped: finished runs are not trained again. The table is
printed after each seed, and when it is stopped.

  mmjax data prepare shapes
  python -m benchmarks.few_labels --workdir=runs/few_labels --seeds=3
"""

import pathlib

from absl import app, flags

from benchmarks import paired_gains
from experiments import multimodal
from mmjax.config import overrides
from mmjax.training import runner

_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of runs', required=True)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'number of seeds', lower_bound=1)
_VARIANTS = flags.DEFINE_list(
  'variants',
  ['labels', 'strong', 'fixmatch', 'mean_teacher', 'distill'],
  'variants of the config to train; labels for that of labels alone',
)
_LABELLED = flags.DEFINE_float(
  'labelled', None, 'fraction of the images with a label (default: the config)'
)
_CONFIG = pathlib.Path(__file__).parents[1] / 'configs/few_labels_shapes.py'


def main(argv) -> None:
  """Prints a line for each variant."""
  del argv
  workdir = pathlib.Path(_WORKDIR.value)
  rows = {}
  try:
    if 'distill' in _VARIANTS.value:
      rows['teacher'] = [_train('teacher', 0, workdir / 'teacher', workdir)]
    for seed in range(_SEEDS.value):
      for variant in _VARIANTS.value:
        accuracy = _train(variant, seed, workdir / f'{variant}_{seed}', workdir)
        rows.setdefault(variant, []).append(accuracy)
      print(paired_gains.format_table(rows), flush=True)
  except SystemExit:
    print(paired_gains.format_table(rows), flush=True)
    raise


def _train(
  variant: str, seed: int, folder: pathlib.Path, workdir: pathlib.Path
) -> float:
  """Test accuracy of a run.

  Raises:
    SystemExit: if a signal stopped the run before its end.
  """
  chosen = '' if variant == 'labels' else variant
  config = overrides.load(f'{_CONFIG}:{chosen}')
  config.seed = seed
  if _LABELLED.value is not None and variant != 'teacher':
    config.data.features.number.labelled = _LABELLED.value
  if variant == 'distill':
    config.tasks.distill.teacher = str(workdir / 'teacher')
  results = runner.run(config, multimodal.build, folder)
  if not results:
    raise SystemExit(130)
  return results['test/number/accuracy']


if __name__ == '__main__':
  app.run(main)
