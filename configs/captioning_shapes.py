"""A captioner on `shapes`: a small ResNet and a causal decoder.

  python -m experiments.captioning --config=configs/captioning_shapes.py \
    --workdir=runs/captioning_shapes

Measured on 2026-11-22, jax 0.10.2, one CPU core that other work shared: 11
minutes; of 500 test captions 0.996 are exactly a reference, on the
compositional split 0.966.
"""

import ml_collections


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  if arg not in ('', 'runlocal'):
    raise ValueError(f"argument {arg!r} is unknown; use 'runlocal' or none")
  config = ml_collections.ConfigDict()
  config.experiment = 'captioning'
  config.seed = 0

  config.data = dict(
    name='shapes',
    image_size=48,
    text_length=36,
    extra_splits=('compositional',),
  )
  config.model = dict(
    name='encoder_decoder',
    image=dict(
      name='resnet',
      stages=(1, 2),
      width=64,
      block='basic',
      stem='patch',
      patch_size=4,
      positions=True,
    ),
    decoder=dict(
      name='text',
      width=128,
      depth=2,
      num_heads=4,
      mlp_dim=512,
    ),
  )
  config.objectives = dict(captioning=dict(weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=1.5e-3,
    schedule='cosine',
    warmup_steps=100,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  config.train = dict(
    steps=1200,
    batch_size=64,
    log_every=50,
    eval_every=400,
    checkpoint_every=400,
    keep_best='val/captions/exact',
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if arg == 'runlocal':
    config.data.name = 'shapes/small'
    config.train.steps = 240
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
    config.eval.num_examples = 200
  return config
