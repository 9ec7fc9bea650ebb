"""Learning rate and loss of the dual encoder on `shapes/small`, 12 short runs.

  mmjax data prepare shapes/small
  python -m experiments.sweep --sweep=configs/sweeps/contrastive_lr.py \
    --workdir=sweeps/lr --workers=2

Not yet run.
"""


def get_sweep():
  """Returns the sweep: what is varied, how it is judged and searched."""
  return dict(
    config='configs/contrastive_shapes.py:runlocal',
    set={
      'data.extra_splits': (),
      'optimizer.warmup_steps': 6,
      'train.steps': 60,
      'train.batch_size': 32,
      'train.eval_every': 15,
      'train.checkpoint_every': 15,
      'train.keep_best': '',
      'eval.num_examples': 100,
    },
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={
      'optimizer.lr': loguniform(1e-4, 1e-2),
      'optimizer.weight_decay': loguniform(1e-3, 0.3),
      'model.text.pooling': choice('last', 'mean'),
    },
    trials=12,
    # Twelve points are too few to learn from; 'tpe' draws its first ten so too.
    sampler='random',
    pruner=dict(name='successive_halving', min_resource=15, reduction_factor=2),
    seed=0,
  )
