r"""Conversations, without images, about a scene of `shapes` by its caption.

  python -m experiments.chat --config=configs/chat_shapes.py \
    --workdir=runs/chat_shapes

The system's turn is the caption of a scene, the user asks the data set's eight
questions about it, and a small language model answers each in a word. Several
conversations share a row. With images: `configs/chat_images.py`.

Measured: not yet run.
"""

import ml_collections
import shapes_base

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'chat'
  config.seed = 0

  config.data = dict(
    name='shapes',
    extra_splits=('compositional',),
    features=dict(
      turns=dict(
        kind='turns',
        field='questions',
        system='captions',
        length=512,
        packed=True,
      ),
    ),
  )
  config.model = dict(
    name='language_model',
    decoder=dict(
      name='text',
      **shapes_base.TRANSFORMER,
      depth=4,
      positions='none',
      block=dict(rope_theta=1e4),
      cross_attention=False,
    ),
  )
  config.tasks = dict(chat=dict(weight=1.0, max_new_tokens=8))
  config.optimizer = shapes_base.optimizer(
    lr=1e-3,
    schedule='cosine',
    warmup_steps=100,
  )
  config.train = dict(
    steps=3000,
    batch_size=32,
    log_every=50,
    eval_every=1000,
    checkpoint_every=1000,
    keep_best='val/turns/exact',
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.model.decoder.depth = 2
    config.train.steps = 150
    config.train.batch_size = 8
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
    config.eval.num_examples = 100
  return config
