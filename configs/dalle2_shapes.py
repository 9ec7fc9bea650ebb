r"""DALL-E 2 on `shapes`: towers, prior and generator, as small as they come.

  python -m experiments.dalle2 --config=configs/dalle2_shapes.py \
    --workdir=runs/dalle2_shapes

Not yet run whole.
"""

from typing import Any

import contrastive_shapes
import ml_collections
import shapes_base

from mmjax.config import variants

_PRIOR = dict(schedule='cosine', prediction='x', steps=20, guidance=1.0)
_GENERATOR = dict(schedule='flow', prediction='x', steps=20, guidance=2.0)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config of all stages, or of one that `arg` names.

  `towers`, `prior` and `generator` are stages alone, of which the last two
  start from --config.init_from, as in experiments/dalle2.py; `runlocal` shrinks
  all to a few minutes on one core.
  """
  stages = ('towers', 'prior', 'generator')
  if not set(arg.split(',')) & set(stages):
    arg = f'all,{arg}'
  chosen = variants.chosen(arg, 'runlocal', one_of=('all', *stages))
  towers = contrastive_shapes.get_config(
    'runlocal' if 'runlocal' in chosen else ''
  )
  sections = dict(
    towers={
      name: towers[name].to_dict()
      for name in ('model', 'tasks', 'optimizer', 'train')
    },
    prior=_prior(),
    generator=_generator(),
  )
  config = ml_collections.ConfigDict()
  config.experiment = 'dalle2'
  config.seed = 0
  config.data = shapes_base.data()
  config.eval = dict(batch_size=100, num_examples=500)
  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.eval = dict(batch_size=50, num_examples=50)
    for name, steps in (('prior', 200), ('generator', 200)):
      sections[name]['train'] |= dict(steps=steps, eval_every=0, ema_decay=0.95)
      sections[name]['optimizer'] |= dict(warmup_steps=20)
  (last,) = chosen - {'runlocal'}
  config.update(sections['generator' if last == 'all' else last])
  if last == 'all':
    config.stages = {name: sections[name] for name in ('towers', 'prior')}
  return config


def _prior() -> dict[str, Any]:
  return dict(
    model=dict(
      name='unclip',
      prior=dict(
        name='prior', **shapes_base.TRANSFORMER, depth=4, embed_dim=128
      ),
    ),
    tasks=dict(prior=_PRIOR),
    optimizer=shapes_base.optimizer(
      lr=1e-3, schedule='cosine', warmup_steps=100, freeze=('towers/.*',)
    ),
    train=_train(steps=4000),
  )


def _generator() -> dict[str, Any]:
  return dict(
    model=dict(
      name='unclip',
      generator=dict(
        name='dit',
        **shapes_base.TRANSFORMER,
        depth=4,
        patch_size=8,
        embedding_feature='image_embedding',
      ),
    ),
    # As in configs/draw_shapes.py, a patch is wider than the model: predict x.
    tasks=dict(unclip=dict(**_GENERATOR, prior=_PRIOR)),
    optimizer=shapes_base.optimizer(
      lr=1.5e-3,
      schedule='cosine',
      warmup_steps=100,
      freeze=('towers/.*', 'prior/.*'),
    ),
    train=_train(steps=8000),
  )


def _train(steps: int) -> dict[str, Any]:
  return dict(
    steps=steps,
    batch_size=64,
    ema_decay=0.999,
    log_every=100,
    eval_every=2000,
    checkpoint_every=2000,
    keep_best='',
  )
