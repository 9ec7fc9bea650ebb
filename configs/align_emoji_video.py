r"""Retrieval of animated emoji by their names, and of names by animation.

Needs the data set `emoji_video`; see `benchmarks/emoji_video.py`.

  python -m experiments.multimodal --config=configs/align_emoji_video.py \
    --workdir=runs/align_emoji_video

With `:still`, the same model gets one frame, in evaluation the middle one.

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with other work, among
76 animations of 329, whose names are not in training; one seed:

                  name of animation    animation of name
                  R@1    R@10          R@1    R@10         time
  six frames      0.053  0.434         0.053  0.434        3 min
  one frame       0.066  0.342         0.053  0.395        1 min
  chance          0.013  0.132         0.013  0.132

With more frames R@10 is higher, R@1 is not.
"""

import ml_collections

from mmjax.config import variants

WIDTH = 96
TRANSFORMER = dict(width=WIDTH, num_heads=4, mlp_dim=4 * WIDTH)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'still' for one frame, 'runlocal' for a minute on one core, or both.
  """
  chosen = variants.chosen(arg, 'runlocal', 'still')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='emoji_video',
    tokenizer='bytes',
    eval_split='',
    features=dict(
      video=dict(
        kind='video',
        number=6,
        size=48,
        augment=(dict(name='random_resized_crop', scale=(0.6, 1.0)),),
      ),
      name=dict(
        kind='text', field='captions', length=64, metadata=dict(tags=4)
      ),
    ),
  )
  config.model = dict(
    name='multimodal',
    embed_dim=64,
    encoders=dict(
      video=dict(
        name='frame_encoder',
        **TRANSFORMER,
        depth=1,
        dropout=0.1,
        image=dict(
          name='resnet',
          stages=(1, 1),
          width=WIDTH // 2,
          block='basic',
          stem='patch',
          patch_size=4,
        ),
      ),
      name=dict(name='transformer', **TRANSFORMER, depth=2, dropout=0.1),
    ),
  )
  config.tasks = dict(align=dict(features=('video', 'name')))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.1, warmup_steps=30
  )
  config.train = dict(steps=120, batch_size=64, log_every=50)
  config.eval = dict(batch_size=64)

  if 'still' in chosen:
    config.data.features.video.number = 1
  if 'runlocal' in chosen:
    config.train.steps = 60
  return config
