r"""The number of objects in an image, from the labels of few images."""

import ml_collections

from mmjax.config import variants

TARGET = 'number'
WEAK = ({'name': 'flip'}, {'name': 'translate', 'pixels': 3})
# Neither a moved nor a covered image keeps the number of objects in it.
STRONG = (
  *WEAK,
  {
    'name': 'rand_augment',
    'num_ops': 2,
    'magnitude': 5.0,
    'exclude': ('translate_x', 'translate_y'),
  },
)


def view(augment) -> dict:
  """A view of the image."""
  return dict(kind='image', field='image', size=48, augment=augment)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  chosen = variants.chosen(
    arg, 'fixmatch', 'mean_teacher', 'distill', 'teacher', 'runlocal'
  )
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='shapes',
    image_size=48,
    augment=WEAK,
    train_split='train[:8000]',
    eval_split='',
    features={
      TARGET: dict(kind='category', field='metadata/num_objects', labelled=0.05)
    },
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(
      image=dict(
        name='resnet',
        stages=(1, 1),
        width=16,
        block='basic',
        stem='patch',
        patch_size=8,
      )
    ),
  )
  config.tasks = dict(classify=dict(target=TARGET))
  config.optimizer = dict(
    name='adamw', lr=4e-3, weight_decay=0.05, warmup_steps=50, clip_norm=1.0
  )
  config.train = dict(steps=1600, batch_size=64, log_every=50, ema_decay=0.99)
  config.eval = dict(batch_size=200)

  if 'fixmatch' in chosen:
    config.data.features.strong = view(STRONG)
    config.tasks.pseudo_labels = dict(target=TARGET, threshold=0.95)
  if 'mean_teacher' in chosen:
    config.data.features.other = view(WEAK)
    config.tasks.mean_teacher = dict(
      target=TARGET, other='other', ramp_steps=200, weight=10.0
    )
  if 'distill' in chosen:
    config.tasks.distill = dict(
      teacher='runs/few_labels_teacher', target=TARGET, temperature=2.0
    )
  if 'teacher' in chosen:
    config.data.features[TARGET].labelled = 1.0
  return config
