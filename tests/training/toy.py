"""A model, an objective and data so small that a run takes a second."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax.training import experiment
from mmjax.types import Items


class Model(nn.Module):
  """Two layers, dropout between them, named axes."""

  width: int = 16

  @nn.compact
  def __call__(self, batch, *, train):
    x = batch['image'].reshape(len(batch['image']), -1)
    x = nn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), ('embed', 'mlp')
      ),
      name='up',
    )(x)
    x = nn.Dropout(0.1)(nn.gelu(x), deterministic=not train)
    x = nn.Dense(
      8,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), ('mlp', 'embed')
      ),
      name='down',
    )(x)
    return {'x': x}


class Mean:
  """Half the squared distance to the label, mean over `mask`."""

  compared_outputs = ()

  def count(self, batch):
    return batch['mask'].sum().astype(jnp.float32)

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    error = (outputs['x'].mean(-1) - batch['label'].astype(jnp.float32)) ** 2
    count = self.count(batch)
    loss = jnp.where(batch['mask'], error, 0.0).sum() / 2
    loss = loss / jnp.maximum(count, 1.0)
    items = Items(error / 2, batch['mask'])
    return loss, {'doubled': 2 * loss, 'items': items}


class Data:
  """Batch i is drawn from seed i."""

  def __init__(self, batch_size=8):
    self.batch_size = batch_size

  def batch(self, i):
    rng = np.random.default_rng(i)
    return {
      'image': rng.normal(size=(self.batch_size, 2, 2, 4)).astype(np.float32),
      'label': rng.integers(0, 5, self.batch_size).astype(np.int32),
      'mask': rng.random(self.batch_size) < 0.7,
    }

  def iterate(self, start_step):
    i = start_step
    while True:
      yield self.batch(i)
      i += 1


class Evaluator:
  """The norm of the parameters' first leaf."""

  def run(self, params):
    yield 'toy/norm', float(jnp.linalg.norm(params['up']['kernel']))
    yield 'toy/bias', float(jnp.sum(params['down']['bias']))

  def render(self):
    from PIL import Image

    return Image.new('RGB', (3, 5))


def unbox(params):
  return nn.meta.unbox(params)


def build(config, mesh=None):
  data = Data(config.train.batch_size)
  return experiment.Experiment(
    model=Model(config.model.get('width', 16)),
    objectives={'mean': (1.0, Mean())},
    train_data=data,
    init_batch={k: v[:2] for k, v in data.batch(0).items()},
    evaluators={'val': {'toy': Evaluator()}, 'test': {'toy': Evaluator()}},
    files={'toy.txt': lambda path: path.write_text('toy')},
  )


def config(**train):
  train = {'steps': 6, 'batch_size': 8, 'log_every': 2} | train
  return {'train': train | {'tensorboard': False}}
