r"""A small DiT that draws the scenes of `shapes` from their captions.

  python -m experiments.draw --config=configs/draw_shapes.py \
    --workdir=runs/draw_shapes

Measured on 2026-11-30, jax 0.10.2, one seed, one CPU core beside much other
work: the run was stopped after 55 minutes at step 4,100. Of step 4,000, 0.996
of 500 drawings have all that their caption names, and nothing else, on test,
and 0.968 on the compositional split; without their text, none. On validation
it was 0.502 at step 2,000 and 0.994 at step 4,000. `--step=4000` of `mmjax
evaluate` measures it, as long as the checkpoint is kept.

With AdamW and lr=1.5e-3 instead of Muon, guidance 3 and 4,000 steps, it was 0
after 1,000 steps, 0.115 after 2,000, 0.555 after 3,000 and 0.64 at the end
(compositional 0.69): small objects, a patch of 8 x 8 pixels each, had wrong
shapes. Weights 1 / sigma^2 of the loss, those of errors of the velocity, were
worse: of 2,000 steps of AdamW, objects fall apart into patches.

The 150 steps of `:runlocal`, 3 minutes, are far too few: gray patches.
"""

import ml_collections
import shapes_base

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few minutes on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'draw'
  config.seed = 0

  config.data = shapes_base.data()
  config.model = dict(
    name='dit',
    **shapes_base.TRANSFORMER,
    depth=4,
    patch_size=8,  # Four patches are a cell of the grid.
    text=dict(
      name='transformer',
      **shapes_base.TRANSFORMER,
      depth=2,
      pooling='mean',
    ),
  )
  config.tasks = dict(
    # A patch has 192 values, but the width is 128: a velocity contains noise of
    # full rank, which 128 features can't represent. A clean image is simpler,
    # so the model predicts it.
    draw=dict(schedule='flow', prediction='x', steps=20, guidance=2.0)
  )
  config.optimizer = shapes_base.optimizer(
    lr=3e-3, schedule='cosine', warmup_steps=100
  )
  config.optimizer.update(name='muon', no_muon=('^embed_patches', '^head'))
  config.train = dict(
    steps=8000,
    batch_size=64,
    ema_decay=0.999,
    log_every=100,
    eval_every=2000,
    checkpoint_every=1000,
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 150
    config.train.eval_every = 0
    config.train.ema_decay = 0.95
    config.optimizer.warmup_steps = 15
    config.eval = dict(batch_size=50, num_examples=50)
  return config
