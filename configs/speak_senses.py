r"""A decoder on `shapes_senses` that speaks: it writes melodies after texts.

Train the tokens of sounds first (`configs/tokenize_senses.py`), then

  python -m experiments.pretrain --config=configs/speak_senses.py \
    --workdir=runs/speak_senses \
    --config.init_from=sound_autoencoder=runs/tokenize_senses
  mmjax predict runs/speak_senses --text='rising tones' --output=rising.wav

Measured on 2026-12-01, jax 0.10.2, one seed, one CPU core beside other work: 60
minutes, resumed at steps 1,700 and 2,525 with another `train.steps`. Of 200
texts of test 0.29 of the sounds have the melody that is asked for, of
validation 0.195; without the text 0.06; of the true sounds all, by the reader
of `mmjax/data/melody_reader.py`.
"""

import ml_collections
import tokenize_senses

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few minutes on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  tokens = tokenize_senses.get_config()
  config = ml_collections.ConfigDict()
  config.experiment = 'pretrain'
  config.seed = 0

  config.data = dict(
    name='shapes_senses',
    image_size=48,
    text_length=28,
    features=dict(sound=tokens.data.features.sound),
  )
  stack = dict(width=128, num_heads=4, mlp_dim=512)
  config.model = dict(
    name='image_first',
    # What reads images, for captions and answers beside the sounds.
    vision=dict(name='vit', patch_size=8, depth=2, **stack),
    decoder=dict(
      name='text',
      **stack,
      depth=4,
      cross_attention=False,
      positions='none',
      block=dict(rope_theta=1e4),
    ),
    sound_codes=dict(
      name='token_codes', width=128, mlp_dim=256, size=1000, token_dim=32
    ),
    sound_autoencoder=tokens.model,
  )
  config.tasks = dict(
    captioning=dict(weight=0.3),
    generate_sound=dict(weight=1.0, guidance=2.0),
  )
  config.optimizer = dict(
    name='muon',
    lr=3e-3,
    schedule='cosine',
    warmup_steps=100,
    weight_decay=0.05,
    clip_norm=1.0,
    freeze=('^sound_autoencoder/',),
    no_muon=('^sound_codes/head/down',),
  )
  config.train = dict(
    steps=3400,
    batch_size=16,
    ema_decay=0.99,
    log_every=50,
    eval_every=0,
    checkpoint_every=500,
    keep_best='',
    blind_baseline=False,
  )
  config.eval = dict(batch_size=100, num_examples=200)

  if 'runlocal' in chosen:
    config.train.update(steps=300, ema_decay=0.95)
    config.optimizer.warmup_steps = 20
    config.eval = dict(batch_size=50, num_examples=50)
  return config
