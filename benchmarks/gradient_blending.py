"""Weights of `tasks.unimodal` by gradient blending (Wang et al. 2020).

  python -m benchmarks.gradient_blending --workdir=runs/blending \
    --config=configs/fusion_senses.py:feature

Trains the config twice, for few steps and for more, each with its own schedule,
with a loss of each modality alone beside that of all, and prints the weights by
how far each one's validation loss fell, and how far it fell behind that of
training. The weight of all modalities together, `multimodal`, is that of
`tasks.classify`.
"""

import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import app, flags

from experiments import multimodal
from mmjax import objectives
from mmjax.config import overrides
from mmjax.data import batches as batching
from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.runs import rebuild
from mmjax.training import runner

_CONFIG = flags.DEFINE_string('config', None, 'a config file', required=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of runs', required=True)
_STEPS = flags.DEFINE_list(
  'steps', ['50', '300'], 'steps of the two runs that are compared'
)
_NUM_EXAMPLES = flags.DEFINE_integer(
  'num_examples',
  500,
  'records of each split to measure losses on',
  lower_bound=0,
)
ALL = 'multimodal'


def main(argv) -> None:
  """Prints the losses and the weights."""
  del argv
  first, last = (int(number) for number in _STEPS.value)
  if not 0 < first < last:
    raise ConfigError(
      f'--steps={first},{last} should be two numbers of steps, the smaller '
      'first'
    )
  start, end = (
    measure(train(steps, pathlib.Path(_WORKDIR.value)))
    for steps in (first, last)
  )
  print('loss                  train  validation, at both steps')
  for name in end:
    numbers = '  '.join(f'{x:.3f}' for x in (*start[name], *end[name]))
    print(f'{name:20}  {numbers}')
  print('weights')
  for name, weight in objectives.blend_weights(start, end).items():
    print(f'{name:20}  {weight:.3f}')


def train(steps: int, workdir: pathlib.Path) -> rebuild.Run:
  """Trains the config for some steps with each modality's loss beside.

  Raises:
    ConfigError: if the config does not classify, or has no validation split.
    SystemExit: if a signal stopped the run before its end.
  """
  config = overrides.load(_CONFIG.value)
  if 'classify' not in config.tasks:
    raise ConfigError(f'{_CONFIG.value} has no tasks.classify to be balanced')
  if not config.data.eval_split:
    raise ConfigError(
      f'{_CONFIG.value} has no data.eval_split, whose losses the weights '
      'depend on'
    )
  with config.unlocked():
    config.model.unimodal_outputs = True
    config.tasks.unimodal = {
      'target': config.tasks.classify.target,
      'weights': dict.fromkeys(config.model.encoders, 1.0),
    }
    config.train.steps = steps
    config.optimizer.warmup_steps = min(
      config.optimizer.warmup_steps, steps // 2
    )
  folder = workdir / f'steps_{steps}'
  if not runner.run(config, multimodal.build, folder):
    raise SystemExit(130)
  return rebuild.load(folder)


def measure(run: rebuild.Run) -> dict[str, tuple[float, float]]:
  """Mean losses on training and validation records, by modality."""
  data, target = run.config.data, run.config.tasks.classify.target
  opened = [
    sources.open_source(data.name, split, data_dir=data.data_dir)
    for split in (data.train_split, data.eval_split)
  ]
  found = {}
  for name in (*run.config.model.encoders, ALL):
    encoder = '' if name == ALL else name
    compute = jax.jit(
      predict.make_output(run.module, target=target, encoder=encoder)
    )
    train_loss, validation_loss = (
      measure_loss(run, compute, source, target) for source in opened
    )
    found[name] = (train_loss, validation_loss)
  return found


def measure_loss(
  run: rebuild.Run,
  compute: Callable[..., jax.Array],
  source: Sequence,
  target: str,
) -> float:
  """Mean cross-entropy of a target over the first records of a source."""
  losses = []
  number = min(_NUM_EXAMPLES.value, len(source))
  with batching.iterate_eval(
    source, run.preprocessor, run.config.eval.batch_size, num_examples=number
  ) as ahead:
    for batch in ahead:
      made = run.preprocessor.make_inputs(batch)
      known = batch[f'{target}_mask'] & batch['mask']
      logits = np.asarray(compute(run.params, made), np.float64)[known]
      labels = batch[target][known]
      total = np.logaddexp.reduce(logits, axis=1)
      losses.extend(total - logits[np.arange(len(labels)), labels])
  return float(np.mean(losses))


if __name__ == '__main__':
  app.run(main)
