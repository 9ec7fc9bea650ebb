"""A dual encoder on `shapes`: a small ResNet and a text transformer.

  python -m experiments.contrastive --config=configs/contrastive_shapes.py \
    --workdir=runs/contrastive_shapes

Measured on 2026-11-22, jax 0.10.2, two CPU cores that other work shared: 7
minutes; among 500 test scenes R@1 0.994 from image to text and 0.993 from text
to image, on the compositional split 0.998 and 0.995.
"""

import ml_collections


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  if arg not in ('', 'runlocal'):
    raise ValueError(f"argument {arg!r} is unknown; use 'runlocal' or none")
  config = ml_collections.ConfigDict()
  config.experiment = 'contrastive'
  config.seed = 0

  config.data = dict(
    name='shapes',
    image_size=48,
    text_length=36,
    extra_splits=('compositional',),
  )
  config.model = dict(
    name='dual_encoder',
    embed_dim=128,
    image=dict(
      name='resnet',
      stages=(1, 2),
      width=64,
      block='basic',
      stem='patch',
      patch_size=4,
    ),
    text=dict(
      name='transformer',
      width=128,
      depth=2,
      num_heads=4,
      mlp_dim=512,
      pooling='last',
    ),
  )
  config.objectives = dict(contrastive=dict(kind='softmax', weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=1e-3,
    schedule='cosine',
    warmup_steps=60,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  config.train = dict(
    steps=600,
    batch_size=128,
    log_every=50,
    eval_every=300,
    checkpoint_every=300,
    keep_best='val/retrieval/mean_r1',
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if arg == 'runlocal':
    config.data.name = 'shapes/small'
    config.train.steps = 200
    config.train.batch_size = 64
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
    config.eval.num_examples = 200
  return config
