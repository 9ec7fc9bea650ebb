r"""A masked autoencoder on the images of `shapes`.

  python -m experiments.multimodal --config=configs/masked_shapes.py \
    --workdir=runs/masked_shapes

Measured on 2026-11-29, jax 0.10.2, one seed, two CPU cores that other programs
kept busy, with `--config.eval.num_examples=200`: 6 minutes of training. Squared
error of hidden patches, and that of predicting the mean of each: 0.154, 0.197
on test; 0.162, 0.206 on the shape-color pairs that training lacks. With 400
steps, 0.180 on test. Deeper, with learned positions, 75% hidden and no epsilon,
it learnt nothing in 400 steps: 0.966 and 0.966 on validation images.
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
      image=dict(
        name='vit',
        **shapes_base.TRANSFORMER,
        depth=3,
        patch_size=6,
        positions='sincos2d',  # As in He et al. 2022.
      ),
    ),
  )
  # Most patches are plain background, whose tint would count as much as an
  # object without the epsilon.
  config.tasks = dict(
    masked=dict(feature='image', fraction=0.5, epsilon=0.03, decoder_depth=1)
  )
  config.optimizer = shapes_base.optimizer(
    lr=1.5e-3, schedule='cosine', warmup_steps=40
  )
  config.train = dict(steps=700, batch_size=32, log_every=50)
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 150
    config.eval.num_examples = 200
  return config
