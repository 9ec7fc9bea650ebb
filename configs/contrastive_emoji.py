r"""A dual encoder on emoji: images in three drawing styles, names and tags.

The data are tars in WebDataset layout, one a drawing style, with `hexcode` and
`tags` in each sample's JSON. Import them once:

  mmjax data import --format=webdataset --input='emoji/*.tar' --name=emoji \
    --group_by=hexcode --text_fields=tags --vocab_size=4096

Unseen concepts, a tenth of them, in styles that training knows (retrieval is
among the images of one style, and the mean over styles is reported). `:final`
trains on the concepts of validation too, and so has none; it is for what was
chosen without it:

  python -m experiments.contrastive \
    --config=configs/contrastive_emoji.py:final --workdir=runs/emoji_concepts

An unseen style of concepts that training knows from the other styles:

  python -m experiments.contrastive \
    --config=configs/contrastive_emoji.py:style \
    --workdir=runs/emoji_style

Measured on 2026-11-22 and 23, jax 0.10.2, one seed, on two CPU cores with the
GLIBC_TUNABLES of docs/cpus.md. Unseen concepts (`:final`), 14 minutes: among
162 images of a style R@1 0.300 from image to text and 0.308 from text to image.
An unseen style (noto), 15 minutes: among 1,574 images 0.582 and 0.587; again
on 2026-11-30, beside much other work, 0.582 and 0.593.

Augmentations and the learning rate of `:style` were chosen on the noto images
of validation concepts, in runs of 500 steps. For unseen concepts, word dropout,
the lower learning rate and the EMA were chosen on validation concepts (R@1
0.327 and 0.329 with `--config.train.steps=1800`; 0.302 and 0.296 before the
latter two, with `--config.optimizer.lr=2e-2 --config.train.steps=1300
--config.optimizer.schedule=cosine --config.train.ema_decay=0`); test images
had no part in it.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: '' or 'final' for unseen concepts, 'style' for an unseen style,
      'runlocal' for a minute on one core.
  """
  chosen = variants.chosen(arg, 'final', 'style', 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'contrastive'
  config.seed = 0

  config.data = dict(
    name='emoji',
    image_size=64,
    text_length=32,
    text_fields=dict(tags=12),
    text_fields_in_evaluation=True,
    # The styles differ in outlines, size, proportions and shades.
    augment=(
      dict(name='outline', p=0.3),
      dict(name='sharpness', p=0.5),
      dict(
        name='warp',
        scale=(0.5, 1.4),
        degrees=12,
        shear=0.15,
        elastic=0.05,
        fill=255,
      ),
      dict(name='flip'),
      dict(
        name='color_jitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.8,
        hue=0.03,
        grey=0.1,
      ),
      dict(name='cutout', size=0.3, p=0.5),
    ),
  )
  config.model = dict(
    name='dual_encoder',
    embed_dim=256,
    image=dict(
      name='resnet',
      stages=(1, 1, 1),
      width=32,
      block='basic',
      stem='patch',
      patch_size=4,
    ),
    text=dict(
      name='transformer',
      width=256,
      depth=0,
      num_heads=4,
      mlp_dim=1024,
      positions='none',
      pooling='mean',
      final_norm=False,  # A word's length is then its weight.
      word_dropout=0.5,
    ),
  )
  config.tasks = dict(contrastive=dict(kind='softmax', weight=1.0))
  config.optimizer = dict(
    name='muon',
    lr=1e-2,
    schedule='constant',
    warmup_steps=100,
    weight_decay=0.2,
    clip_norm=1.0,
  )
  config.train = dict(
    steps=1650,
    batch_size=256,
    ema_decay=0.995,
    log_every=25,
    eval_every=500,
    checkpoint_every=250,
  )
  config.eval = dict(batch_size=128, gallery_by='source')

  if 'final' in chosen:
    config.data.train_split = 'train+validation'
    config.data.eval_split = ''
    config.train.eval_every = 0
  if 'style' in chosen:
    config.optimizer.update(lr=2e-2, schedule='cosine')
    config.train.update(steps=1750, ema_decay=0.0)
    config.model.text.word_dropout = 0.0  # Its texts are those of training.
    config.model.text.dropout = 0.1
    config.data.train_split = 'train+validation+test'
    config.data.where = dict(source=('openmoji', 'twemoji'))
    config.data.eval_split = 'validation'
    config.data.eval_where = dict(source='noto')
    config.data.test_split = 'train+test'
    config.data.test_where = dict(source='noto')
  if 'runlocal' in chosen:
    # Too short for an average, so it ends slowly instead.
    config.train.update(steps=80, batch_size=128, eval_every=40, ema_decay=0.0)
    config.optimizer.update(lr=2e-2, schedule='cosine', warmup_steps=10)
  return config
