r"""Which fusion, at which depth of the encoders, on events of three senses?

  mmjax data prepare shapes_senses
  python -m experiments.sweep --sweep=configs/sweeps/fusion.py \
    --workdir=sweeps/fusion --workers=2

The question of MFAS (Perez-Rua et al. 2019), for fusions by name, which trains
the encoders with each. Not yet run: 40 trials of 800 steps, of which the worse
half ends at 200; a step takes about 30 ms of a CPU core.
`benchmarks/fusion_table.py` answers it for encoders that stay as they are.
"""


def get_sweep():
  """Returns the sweep: what is varied, how it is judged and searched."""
  return dict(
    config='configs/fusion_senses.py:layer,small',
    set={
      # All fusions of the space have this setting, and defaults for the others.
      'model.fusion': dict(name='concat', width=32),
      'train.steps': 800,
      'train.eval_every': 200,
      'train.checkpoint_every': 200,
      'train.keep_best': '',
      'eval.num_examples': 500,
    },
    metric='val/event/accuracy',
    direction='maximize',
    space={
      'model.fusion.name': choice(
        'pooled_concat',
        'sum',
        'product',
        'gated',
        'low_rank',
        'mfb',
        'mutan',
        'block_fusion',
        'attention_pool',
        'concat',
        'co_attention',
        'bottleneck',
        'perceiver_resampler',
      ),
      'model.fuse_at': choice('input', 1, 'output', (1, 'output')),
    },
    trials=40,
    pruner=dict(
      name='successive_halving', min_resource=200, reduction_factor=2
    ),
    seed=0,
  )
