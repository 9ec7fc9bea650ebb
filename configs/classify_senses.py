r"""The class of an event from an image, tones and a clip; none is enough.

  python -m experiments.multimodal --config=configs/classify_senses.py \
    --workdir=runs/classify_senses

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with other work, with
`:runlocal`, 300 steps: 5 minutes; test accuracy 0.814 from all three fields,
0.206 to 0.248 from two (at best 0.25) and 0.060 to 0.072 from one (at best
0.063 in the mean).

`:regress` predicts a number instead, `total`: that of the objects in the image
and of the tones together. With `:regress,runlocal`, 3 minutes (2026-11-30), its
absolute error on test is 0.019; of the mean of training 1.154, of the model
without the image or the sound 4 and more, as each alone says half of it.
"""

import ml_collections

from mmjax.config import variants

WIDTH = 64
TRANSFORMER = dict(width=WIDTH, depth=2, num_heads=4, mlp_dim=4 * WIDTH)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'regress' for the number of objects and tones; 'runlocal' for a short
      run.
  """
  chosen = variants.chosen(arg, 'regress', 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='shapes_senses',
    image_size=48,
    features=dict(
      sound=dict(kind='sound', rate=4000, seconds=1.1),
      clip=dict(kind='video', number=6, size=24),
      event=dict(kind='category'),
    ),
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(
      image=dict(
        name='resnet',
        stages=(1, 2),
        width=WIDTH // 2,
        block='basic',
        stem='patch',
        patch_size=4,
      ),
      sound=dict(
        name='audio_transformer',
        **TRANSFORMER,
        spectrogram=dict(num_mels=32, n_fft=256, hop=80),
      ),
      clip=dict(
        name='video_transformer',
        **TRANSFORMER,
        patch_size=8,
        tubelet_size=2,
      ),
    ),
    fusion=dict(
      name='concat', width=WIDTH, depth=1, num_heads=4, mlp_dim=2 * WIDTH
    ),
  )
  config.tasks = dict(classify=dict(target='event'))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.05, warmup_steps=50
  )
  config.train = dict(steps=1000, batch_size=64, log_every=50)
  config.eval = dict(batch_size=100)

  if 'regress' in chosen:
    # The clip and the class say nothing of the number.
    del config.data.features.clip, config.data.features.event
    del config.model.encoders.clip
    config.data.features.total = dict(kind='number')
    config.tasks = dict(regress=dict(target='total'))
  if 'runlocal' in chosen:
    config.train.steps = 300
  return config
