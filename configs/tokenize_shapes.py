r"""An autoencoder of the scenes of `shapes`, with a codebook of 1,000 tokens.

  python -m experiments.draw --config=configs/tokenize_shapes.py \
    --workdir=runs/tokenize_shapes

Not yet run whole. Measured on 2026-11-30, jax 0.10.2, one seed, on 2 CPU cores
that ten other programs kept busy: `:runlocal` (400 steps, 6 minutes) gives 20.5
dB PSNR and 0.67 SSIM on test, next to 17.7 dB of one color an image, and uses
4% of the codes; `:runlocal,vq` with a batch of 32, 300 steps,
codebook.decay=0.95, lr=3e-3 and no weight decay 20.3 dB, and 89%. Objects are
at their places, in their sizes, all brown. That was before the decoder's last
convolution started at zero. Since then, `:runlocal` with a batch of 32 and 600
steps was looked at on the way: brown at step 150 (20.0 dB on validation, 17.3
of one color an image), blue or orange at step 300 (21.5 dB), 22.7 dB at 450,
blurred, with 2% of the codes; it was stopped there.
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
    lr=2e-3, schedule='cosine', warmup_steps=50
  )
  config.train = dict(
    steps=5000,
    batch_size=64,
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
