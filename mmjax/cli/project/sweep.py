r"""Learning rate and depth of the encoder, in eight runs.

mmjax sweep --sweep=sweep.py --workdir=sweeps/first
mmjax sweep-report sweeps/first
"""


def get_sweep():
  """Returns the sweep: what is varied, how it is judged and searched."""
  return dict(
    config='config.py',
    set={'train.steps': 100, 'train.eval_every': 50},
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={
      'optimizer.lr': loguniform(1e-4, 1e-2),
      'model.image.depth': choice(1, 2, 3),
    },
    trials=8,
  )
