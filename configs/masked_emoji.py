r"""Masked language modelling of the names and tags of emoji.

The data are those of `configs/contrastive_emoji.py`, which says how to import
them. A text is a name with its first 12 tags; validation and test have emoji
that training lacks.

  python -m experiments.multimodal --config=configs/masked_emoji.py \
    --workdir=runs/masked_emoji
  mmjax predict runs/masked_emoji --input text="red [MASK]"

Measured on 2026-11-29, jax 0.10.2, one seed, two CPU cores that other programs
kept busy (stopped at step 590 and resumed): 10 minutes of training. Test:
cross-entropy of hidden tokens 4.951, that of their frequencies in training
5.527; accuracy 0.372 and 0.337.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='emoji',
    text_length=32,
    text_fields=dict(tags=12),
    text_fields_in_evaluation=True,
    eval_split='validation',
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(
      text=dict(
        name='transformer',
        width=128,
        depth=2,
        num_heads=4,
        mlp_dim=512,
        pooling='mean',
        dropout=0.1,
        block=dict(dropout=0.1),
      ),
    ),
  )
  config.tasks = dict(masked=dict(feature='text', fraction=0.15))
  config.optimizer = dict(
    name='adamw',
    lr=2e-3,
    schedule='cosine',
    warmup_steps=100,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  config.train = dict(steps=600, batch_size=32, log_every=50)
  config.eval = dict(batch_size=64)

  if 'runlocal' in chosen:
    config.train.steps = 200
  return config
