r"""Contrast of images and texts, and matching of hard pairs, on `shapes`.

  python -m experiments.multimodal --config=configs/match_shapes.py \
    --workdir=runs/match_shapes
"""

import ml_collections
import shapes_base

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = shapes_base.data()
  config.model = dict(
    name='multimodal',
    embed_dim=128,
    encoders=dict(
      image=shapes_base.image(positions=True),
      text=dict(name='transformer', **shapes_base.TRANSFORMER, depth=2),
    ),
    fusion=dict(name='concat', **shapes_base.TRANSFORMER, depth=1),
  )
  config.tasks = dict(contrastive=dict(), match=dict())
  config.optimizer = shapes_base.optimizer(
    lr=1e-3, schedule='cosine', warmup_steps=60
  )
  config.train = dict(steps=600, batch_size=64, log_every=50)
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 150
    config.eval.num_examples = 200
  return config
