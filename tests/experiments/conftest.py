"""Configs of runs that start from trained weights."""

from pathlib import Path

import pytest

from mmjax.config import overrides
from mmjax.data import builders, shapes

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def make_config(tmp_path_factory):
  """(init_from, name) -> the config of a run whose step changes nothing."""
  folder = tmp_path_factory.mktemp('data')
  small = shapes.ShapesConfig(
    'tiny', train=8, validation=4, test=4, compositional=4
  )
  builders.build(
    lambda data_dir: shapes.Shapes(config=small, data_dir=data_dir),
    folder,
    progress=False,
  )

  def make(source, name='contrastive_shapes.py'):
    config = overrides.load(str(CONFIGS / name))
    config.init_from = str(source)
    config.data.update(name='shapes/tiny', data_dir=str(folder))
    config.data.extra_splits = ()
    config.optimizer.update(lr=0.0, warmup_steps=0)
    config.train.update(
      steps=1, batch_size=4, ema_decay=0.0, eval_every=0, keep_best=''
    )
    config.eval.update(batch_size=4)
    return config

  return make
