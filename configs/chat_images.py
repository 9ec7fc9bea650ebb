r"""Conversations about images of `shapes`.

  python -m experiments.chat --config=configs/chat_images.py \
    --workdir=runs/chat_images

The image stands before the first of the data set's eight questions about it, as
36 tokens of a small ViT, and a small language model answers each in a word
(Liu et al. 2023, figure 1, without a projector).

Measured: not yet run.
"""

import ml_collections
import shapes_base

from mmjax.config import variants

IMAGE_SIZE, PATCH_SIZE = 48, 8


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'chat'
  config.seed = 0

  config.data = dict(
    name='shapes',
    image_size=IMAGE_SIZE,
    extra_splits=('compositional',),
    features=dict(
      turns=dict(
        kind='turns',
        field='questions',
        image='image',
        image_tokens=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        placeholder='<unk>',  # No text has it: the tokenizer knows all bytes.
        length=320,
      ),
    ),
  )
  config.model = dict(
    name='interleaved',
    placeholders=(3,),  # '<unk>'
    vision=dict(
      name='vit',
      patch_size=PATCH_SIZE,
      **shapes_base.TRANSFORMER,
      depth=4,
    ),
    decoder=dict(
      name='text',
      **shapes_base.TRANSFORMER,
      depth=4,
      positions='none',
      block=dict(rope_theta=1e4),
      cross_attention=False,
    ),
  )
  config.tasks = dict(chat=dict(weight=1.0, image='image', max_new_tokens=8))
  config.optimizer = shapes_base.optimizer(
    lr=1e-3,
    schedule='cosine',
    warmup_steps=100,
  )
  config.train = dict(
    steps=10_000,
    batch_size=64,
    log_every=100,
    eval_every=2000,
    checkpoint_every=2000,
    keep_best='val/turns/exact',
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.model.vision.depth = config.model.decoder.depth = 2
    config.train.steps = 100
    config.train.batch_size = 16
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
    config.eval.num_examples = 100
  return config
