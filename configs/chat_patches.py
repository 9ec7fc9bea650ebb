r"""Conversations about images of any size, several in a row.

  python -m experiments.chat --config=configs/chat_patches.py \
    --workdir=runs/chat_patches

As `chat_images`, but images keep their aspect ratio, as patches of a
`PackedViT`, words have positions of time, row and column (Wang et al. 2024,
section 2.1), and conversations are packed with their images. The same from
published weights, with adapters on all layers of attention:

  python -m experiments.chat --config=configs/chat_patches.py \
    --config.init_from=Qwen/Qwen2.5-VL-3B-Instruct \
    --config.adapter.layers="('attention/(query|key|value|out)$',)" \
    --config.optimizer.lr=1e-4 --workdir=runs/tuned

Measured: not yet run.
"""

import ml_collections
import shapes_base

from mmjax.config import variants

PATCH_SIZE, MERGE_SIZE = 8, 2


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
        image='photos',
        placeholder='<unk>',  # No text has it: the tokenizer knows all bytes.
        length=896,
        packed=True,
      ),
      photos=dict(
        kind='patches',
        field='image',
        tokens=64,  # Four images in a row.
        patch_size=PATCH_SIZE,
        merge_size=MERGE_SIZE,
        temporal_patch_size=1,
      ),
    ),
  )
  config.model = dict(
    name='interleaved',
    placeholders=(3,),  # '<unk>'
    vision=dict(
      name='packed_vit',
      patch_size=PATCH_SIZE,
      merge_size=MERGE_SIZE,
      temporal_patch_size=1,
      **shapes_base.TRANSFORMER,
      depth=4,
      out_width=shapes_base.TRANSFORMER['width'],
    ),
    decoder=dict(
      name='text',
      **shapes_base.TRANSFORMER,
      depth=4,
      positions='none',
      # Pairs of features for time, row and column.
      block=dict(rope_theta=1e4, rope=dict(sections=(4, 6, 6))),
      cross_attention=False,
    ),
  )
  config.tasks = dict(chat=dict(weight=1.0, image='photos', max_new_tokens=8))
  config.optimizer = shapes_base.optimizer(
    lr=1e-3,
    schedule='cosine',
    warmup_steps=100,
  )
  config.train = dict(
    steps=10_000,
    batch_size=16,
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
    config.train.batch_size = 4
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
    config.eval.num_examples = 100
  return config
