r"""A masked transformer that draws the scenes of `shapes` as tokens.

Train the tokens first (`configs/tokenize_shapes.py`), then

  python -m experiments.draw --config=configs/draw_tokens_shapes.py \
    --workdir=runs/draw_tokens_shapes \
    --config.init_from=autoencoder=runs/tokenize_shapes

Measured on 2026-11-30, jax 0.10.2, one seed, one CPU core beside other work: 35
minutes. Of 200 drawings each, 0.66 have all that their caption names, and
nothing else, on test, and 0.62 on the compositional split; without their text,
none. On validation it was 0.55 at step 2,000, 0.725 at step 4,000 and 0.775 at
the end. Large objects are right; small ones, of one or two tokens, are those
whose shapes are wrong.

`:runlocal` only shows that it runs.
"""

import ml_collections
import shapes_base
import tokenize_shapes

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few minutes on one core.

  It needs `init_from`, which names a trained autoencoder.
  """
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'draw'
  config.seed = 0

  config.data = shapes_base.data()
  config.model = dict(
    name='maskgit',
    **shapes_base.TRANSFORMER,
    depth=4,
    autoencoder=tokenize_shapes.get_config().model,
    text=dict(name='transformer', **shapes_base.TRANSFORMER, depth=2),
  )
  config.tasks = dict(draw_tokens=dict(steps=8, guidance=3.0))
  config.optimizer = shapes_base.optimizer(
    lr=3e-3,
    schedule='cosine',
    warmup_steps=100,
    freeze=('^autoencoder/',),
  )
  config.optimizer.update(name='muon', no_muon=('^head',))
  config.train = dict(
    steps=5000,
    batch_size=32,
    ema_decay=0.998,
    log_every=100,
    eval_every=2000,
    checkpoint_every=2000,
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 400
    config.train.eval_every = 0
    config.train.ema_decay = 0.95
    config.optimizer.warmup_steps = 20
    config.eval = dict(batch_size=50, num_examples=50)
  return config
