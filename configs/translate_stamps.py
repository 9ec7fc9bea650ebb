r"""French names of drawings from their English ones and the drawing.

Needs the data set `stamps`; see `benchmarks/debian_data.py`.

  python -m experiments.multimodal --config=configs/translate_stamps.py \
    --workdir=runs/translate_stamps
"""

import ml_collections

from mmjax.config import variants

WIDTH = 128
TRANSFORMER = dict(width=WIDTH, num_heads=4, mlp_dim=4 * WIDTH)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='stamps',
    image_size=64,
    augment=(dict(name='random_resized_crop', scale=(0.5, 1.0)),),
    features=dict(
      english=dict(
        kind='text', field='names', language='en', length=32, as_input=True
      ),
      french=dict(kind='text', field='names', language='fr', length=40),
    ),
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(
      english=dict(name='transformer', **TRANSFORMER, depth=2, dropout=0.1),
      image=dict(
        name='resnet',
        stages=(1, 1, 1),
        width=32,
        block='basic',
        stem='patch',
        patch_size=4,
      ),
    ),
    fusion=dict(name='concat', width=WIDTH),
    decoder=dict(name='text', **TRANSFORMER, depth=2, dropout=0.1),
  )
  config.tasks = dict(translate=dict(target='french', label_smoothing=0.1))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.1, warmup_steps=50
  )
  config.train = dict(steps=1000, batch_size=64, log_every=50)
  config.eval = dict(batch_size=64)

  if 'runlocal' in chosen:
    config.train.steps = 60
  return config
