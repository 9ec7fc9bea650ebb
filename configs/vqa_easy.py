"""Visual question answering on easy-VQA, from the PyPI package `easy-vqa`.

  pip install -e '.[easy_vqa]' && mmjax data prepare easy_vqa
  python -m experiments.vqa --config=configs/vqa_easy.py --workdir=runs/vqa_easy

Measured on 2026-11-22, jax 0.10.2, one CPU core: 16 minutes (and 9 for the
blind baseline); test accuracy 0.998, of the baseline 0.670.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'vqa'
  config.seed = 0

  config.data = dict(
    name='easy_vqa',
    image_size=64,
    question_length=14,
    num_questions=4,
    answer_length=4,
  )
  config.model = dict(
    name='encoder_decoder',
    image=dict(
      name='resnet',
      stages=(1, 2),
      width=48,
      block='basic',
      stem='patch',
      patch_size=4,
      positions=True,
    ),
    question=dict(
      name='transformer',
      width=128,
      depth=1,
      num_heads=4,
      mlp_dim=512,
      pooling='mean',
    ),
    fusion=dict(
      name='cross_attention',
      query='question',
      width=128,
      depth=2,
      num_heads=4,
      mlp_dim=384,
      block=dict(gated=True, activation='silu'),
    ),
  )
  config.tasks = dict(vqa_classification=dict(weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=1e-3,
    schedule='cosine',
    warmup_steps=100,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  config.train = dict(
    steps=2400,
    batch_size=32,
    log_every=50,
    eval_every=800,
    checkpoint_every=400,
    keep_best='val/vqa/accuracy',
  )
  config.eval = dict(batch_size=200)

  if 'runlocal' in chosen:
    config.train.steps = 150
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 20
  return config
