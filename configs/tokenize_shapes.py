r"""An autoencoder of the scenes of `shapes`, with a codebook of 1,000 tokens.

  python -m experiments.draw --config=configs/tokenize_shapes.py \
    --workdir=runs/tokenize_shapes

Measured on 2026-11-30, jax 0.10.2, one seed, one CPU core beside other work: 19
minutes. On test 33.1 dB PSNR and 0.949 SSIM, next to 17.5 dB of one color an
image, and 80% of the codes occur. `:runlocal`, 400 steps in 3 minutes: 26.8 dB,
0.881, and 37% of the codes.

With AdamW and lr=2e-3 instead of Muon, colors come late: objects were brown at
step 150 of 32 images (20.0 dB), blue or orange at step 300, and at step 450
(22.7 dB) 2% of the codes occurred. `:runlocal,vq` with AdamW, lr=3e-3, no
weight decay and codebook.decay=0.95 used 89% of its codes after 300 steps, at
20.3 dB.
"""

import ml_collections
import shapes_base

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'vq' and 'lfq' are other codebooks, 'gaussian' latents; `runlocal`
      shrinks it to a few minutes on two cores.
  """
  chosen = variants.chosen(arg, 'runlocal', 'vq', 'lfq', 'gaussian')
  config = ml_collections.ConfigDict()
  config.experiment = 'draw'
  config.seed = 0

  config.data = shapes_base.data()
  config.model = dict(
    name='autoencoder',
    width=32,
    multipliers=(1, 2),
    num_blocks=1,
    patch_size=4,  # A token stands for 8 x 8 pixels, a quarter of a cell.
    groups=8,
    codebook=dict(name='fsq', levels=(8, 5, 5, 5)),
  )
  if 'vq' in chosen:
    config.model.codebook = dict(name='vq', size=1024, channels=8)
  if 'lfq' in chosen:
    config.model.codebook = dict(name='lfq', channels=10)
  if 'gaussian' in chosen:
    config.model.codebook = dict(name='gaussian', channels=4)
  config.tasks = dict(reconstruct=dict(distance='squared'))
  config.optimizer = shapes_base.optimizer(
    lr=5e-3, schedule='cosine', warmup_steps=50
  )
  config.optimizer.update(name='muon')
  config.train = dict(
    steps=4000,
    batch_size=32,
    ema_decay=0.99,
    log_every=50,
    eval_every=1000,
    checkpoint_every=1000,
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.steps = 400
    config.train.eval_every = 0
    config.train.ema_decay = 0.95
    config.optimizer.warmup_steps = 20
    config.eval = dict(batch_size=50, num_examples=100)
  return config
