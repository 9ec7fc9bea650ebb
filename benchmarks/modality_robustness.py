"""Accuracy of a trained run as each of its modalities goes missing or noisy.

  python -m benchmarks.modality_robustness --run=runs/fusion_senses

Prints a line for each modality: the accuracy of the class with a growing share
of the test records that lack the modality, then with growing noise on it. A
fusion that makes no use of a modality has a flat line.
"""

from absl import app, flags

from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.evaluators import robustness
from mmjax.models import predict
from mmjax.runs import rebuild

_RUN = flags.DEFINE_string('run', None, 'folder of a run', required=True)
_SPLIT = flags.DEFINE_string('split', 'test', 'split to measure')
_NUM_EXAMPLES = flags.DEFINE_integer(
  'num_examples',
  0,
  'number of records, from the first; 0 for all',
  lower_bound=0,
)


def main(argv) -> None:
  """Prints the table."""
  del argv
  run = rebuild.load(_RUN.value)
  targets = [task.classifies for task in run.tasks.values() if task.classifies]
  if not targets:
    raise ConfigError(run.unable('classify'))
  source = sources.open_source(
    run.config.data.name, _SPLIT.value, data_dir=run.config.data.data_dir
  )
  points = robustness.measure_curves(
    predict.make_output(run.module, target=targets[0]),
    run.params,
    source,
    run.preprocessor,
    target=targets[0],
    inputs=run.inputs,
    batch_size=run.config.eval.batch_size,
    num_examples=_NUM_EXAMPLES.value,
  )
  print(robustness.format_curves(points))


if __name__ == '__main__':
  app.run(main)
