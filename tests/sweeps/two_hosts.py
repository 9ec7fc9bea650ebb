"""A sweep of a toy of several hosts, as a program; flags as of a sweep.

Each process writes down the learning rate of every run that it builds, in
WORKDIR/seen.PROCESS.
"""

import dataclasses
import os
import pathlib
import time

import jax
import toy
from absl import flags

from mmjax.errors import ConfigError
from mmjax.sweeps import command


class Data(toy.Data):
  """This host's rows of the toy's batches."""

  def batch(self, i):
    time.sleep(float(os.environ.get('SECONDS_A_BATCH', 0)))
    hosts, host = jax.process_count(), jax.process_index()
    rows = self.batch_size // hosts
    part = slice(host * rows, (host + 1) * rows)
    return {name: value[part] for name, value in super().batch(i).items()}


def build(config, mesh):
  if os.environ.get('REFUSING_HOST') == str(jax.process_index()):
    raise ConfigError('data/toy is not there; prepare it')
  folder = pathlib.Path(flags.FLAGS.workdir)
  with (folder / f'seen.{jax.process_index()}').open('a') as file:
    print(config.optimizer.lr, file=file)
  data = Data(config.train.batch_size)
  return dataclasses.replace(toy.build(config, mesh), train_data=data)


if __name__ == '__main__':
  command.launch(lambda name: build)
