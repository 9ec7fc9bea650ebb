r"""One image and one text encoder from scenes and from events with sounds.

`shapes` has images with captions; `shapes_senses` has them too, about the
shape, the melody and the direction of an event, and sounds. Each batch has
examples of both. A text is matched with its image and with its sound.

  mmjax data prepare shapes/small
  mmjax data prepare shapes_senses
  python -m experiments.multimodal --config=configs/mixture_shapes.py \
    --workdir=runs/mixture_shapes

`:scenes` and `:events` train on one of the data sets alone.

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with much other work,
with `:runlocal`, 150 steps: 9 minutes, of which 1:41 of computing. Test, among
200 records: scenes R@1 0.055 from image to text (chance 0.005); events R@10
0.18 from text to sound and 0.17 from text to image. Their captions name one of
four melodies and one of four shapes, so about 0.2 is the best possible there.
The whole config is not yet run.
"""

import ml_collections
import shapes_base

from mmjax.config import variants

WIDTH = 64
TRANSFORMER = dict(width=WIDTH, depth=2, num_heads=4, mlp_dim=4 * WIDTH)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to two minutes on free cores."""
  chosen = variants.chosen(arg, 'scenes', 'events', 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    mixture=dict(
      scenes=dict(name='shapes/small', weight=1.0),
      events=dict(name='shapes_senses', weight=1.0),
    ),
    image_size=48,
    # The data sets have tokenizers of their own, and a model has one.
    tokenizer='bytes',
    text_length=112,
    features=dict(sound=dict(kind='sound', rate=4000, seconds=1.1)),
  )
  config.model = dict(
    name='multimodal',
    embed_dim=WIDTH,
    encoders=dict(
      image=shapes_base.image(positions=True),
      text=dict(name='transformer', **TRANSFORMER),
      sound=dict(
        name='audio_transformer',
        **TRANSFORMER,
        spectrogram=dict(num_mels=32, n_fft=256, hop=80),
      ),
    ),
  )
  config.tasks = dict(
    align=dict(features=('image', 'text', 'sound'), anchor='text')
  )
  config.optimizer = shapes_base.optimizer(lr=1e-3, warmup_steps=50)
  config.train = dict(steps=2000, batch_size=64, log_every=50, eval_every=500)
  config.eval = dict(batch_size=100)

  if 'scenes' in chosen:
    config.data.mixture.events = None
    config.data.features = None
    del config.model.encoders.sound
    config.tasks.align = dict(features=('image', 'text'))
  if 'events' in chosen:
    config.data.mixture.scenes = None
  if 'runlocal' in chosen:
    config.train.update(steps=150, eval_every=0)
    config.eval.num_examples = 200
  return config
