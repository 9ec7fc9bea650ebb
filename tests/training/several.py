"""A run on several processes of one machine, as a program.

python several.py --config=several_config.py --workdir=DIR --num_processes=2
  --process_id=0 --coordinator=localhost:PORT

The metrics of each step tell which examples it saw.
"""

import fractions
import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import toy

from mmjax.data import batches, variants
from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.parallel import mesh as mesh_lib
from mmjax.training import experiment, main


class Mean(toy.Mean):
  """Also tells what examples there are, in a number that order can't change."""

  def __call__(self, outputs, batch, **kwargs):
    loss, metrics = super().__call__(outputs, batch, **kwargs)
    count = jnp.maximum(batch['mask'].sum(), 1)
    index = jnp.where(batch['mask'], batch['index'] + 1.0, 0.0)
    metrics['index'] = index.sum() / count
    metrics['index_squared'] = (index**2).sum() / count
    return loss, metrics


def read(record, rng) -> dict[str, np.ndarray]:
  """A record's arrays; slow, so that signals come in between."""
  time.sleep(0.002)
  record = record['id']
  if record == 7 and os.environ.get('BROKEN_HOST') == str(jax.process_index()):
    raise ConfigError('the disk is gone')
  own = np.random.default_rng(record)
  return {
    'image': own.normal(size=(2, 2, 4)).astype(np.float32) + rng.normal() / 9,
    'label': np.int32(record % 5),
    'mask': np.bool_(record % 3),
  }


class Slow(toy.Evaluator):
  """Gives time for a signal."""

  def run(self, params):
    print('evaluating', flush=True)
    time.sleep(2)
    return iter(())


# Batches of 16 and of 24 examples, which the shards of all meshes here divide.
SIZES = tuple(
  variants.Variant(read, fractions.Fraction(scale)) for scale in ('1', '3/2')
)


def build(config, mesh) -> experiment.Experiment:
  if os.environ.get('REFUSING_HOST') == str(jax.process_index()):
    raise ConfigError('data/toy is not there; prepare it')
  data = batches.TrainBatches(
    [{'id': i} for i in range(40)],
    read,
    batch_size=config.train.batch_size,
    seed=config.seed,
    rows=functools.partial(mesh_lib.batch_rows, mesh),
    variants=SIZES,
  )
  built = toy.build(config, mesh)
  if config.train.eval_every:
    built.evaluators['val'] = {str(i): Slow() for i in range(10)}
  return experiment.Experiment(
    model=toy.Model(config.model.width),
    objectives={'mean': (1.0, Mean())},
    train_data=data,
    init_batch=built.init_batch,
    evaluators=built.evaluators,
    variants=SIZES,
  )


if __name__ == '__main__':
  hosts.NEW_FILE = 2
  main.launch(build)
