r"""A masked autoencoder on the images of `shapes`.

  python -m experiments.multimodal --config=configs/masked_shapes.py \
    --workdir=runs/masked_shapes

Not yet run to its end. After 60 steps (with `--config.train.steps=60
--config.optimizer.warmup_steps=10 --config.eval.num_examples=64`) its error is
still that of predicting the means of patches: 0.966 and 0.960 on 64 test
images.
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

  config.data = shapes_base.data(augment=(dict(name='flip'),))
  config.model = dict(
    name='multimodal',
    encoders=dict(
      image=dict(name='vit', **shapes_base.TRANSFORMER, depth=4, patch_size=6),
    ),
  )
  config.tasks = dict(masked=dict(field='image', fraction=0.75))
  config.optimizer = shapes_base.optimizer(
    lr=1.5e-3, schedule='cosine', warmup_steps=100
  )
  config.train = dict(steps=600, batch_size=32, log_every=50)
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 150
    config.eval.num_examples = 200
  return config
