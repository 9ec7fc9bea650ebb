r"""Preference tuning of a published language model with adapters.

  mmjax data import --format=parquet --input=pairs.parquet --name=pairs
  python -m experiments.chat --config=configs/prefer_pairs.py \
    --config.init_from=SmolLM2-135M-Instruct --workdir=runs/preferred

The data set has the fields prompt, chosen and rejected. DPO compares with the
same weights without their adapters.

Measured: not yet run.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to minutes on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'chat'
  config.seed = 0
  config.init_from = 'SmolLM2-135M-Instruct'

  config.data = dict(
    name='pairs',
    test_split='',
    features=dict(pair=dict(kind='preference', length=1024)),
  )
  config.model = dict(name='language_model')  # That of `init_from`.
  config.tasks = dict(prefer=dict(loss='sigmoid', beta=0.1))
  config.adapter = dict(
    layers=('attention/(query|key|value|out)$', 'mlp/'),
    rank=16,
    alpha=32.0,
  )
  config.optimizer = dict(
    name='adamw',
    lr=5e-5,
    schedule='linear',
    warmup_steps=50,
    clip_norm=1.0,
  )
  config.train = dict(
    steps=1000,
    batch_size=32,
    accumulate=4,
    dtype='bfloat16',
    log_every=10,
    eval_every=250,
    checkpoint_every=250,
    keep_best='val/pair/accuracy',
  )
  config.eval = dict(batch_size=16, num_examples=500)

  if 'runlocal' in chosen:
    config.data.features.pair.length = 128
    config.train.steps = 50
    config.train.batch_size = 8
    config.train.accumulate = 1
    config.train.dtype = 'float32'
    config.train.eval_every = 0
    config.optimizer.warmup_steps = 5
    config.eval.num_examples = 50
  return config
