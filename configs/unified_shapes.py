r"""One decoder on `shapes` that writes captions and answers, and draws.

Train the tokens of images first (`configs/tokenize_shapes.py`), then

  python -m experiments.pretrain --config=configs/unified_shapes.py \
    --workdir=runs/unified_shapes \
    --config.init_from=autoencoder=runs/tokenize_shapes

Measured on 2026-11-30, jax 0.10.2, one seed, one CPU core beside much other
work: 48 minutes. Of 200 examples each, on test and on the compositional split:
all captions are exact; 0.719 and 0.744 of the answers are right (the commonest:
0.336 and 0.355); 0.105 and 0.055 of the drawings have all that their caption
names, and nothing else, and none without it. The model has seen 40,000 captions
to draw; the masked tokens of `configs/draw_tokens_shapes.py` had seen 64,000
when half of their drawings were right.

Two of the tasks alone, for as many steps (`--config.tasks.NAME.weight=0` for
the other two), of 500 examples each: answers 0.740 and 0.655 in 16 minutes,
drawings 0.46 and 0.36 in 16 minutes. So one decoder answers as well as one for
questions alone, and captions can't be better than exact, but it learns to draw
later.
"""

import ml_collections
import shapes_base
import tokenize_shapes

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few minutes on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'pretrain'
  config.seed = 0

  config.data = shapes_base.data(
    question_length=16, num_questions=2, answer_length=4
  )
  config.model = dict(
    name='image_first',
    # Understanding reads an image's features, and writing its tokens (Janus).
    vision=shapes_base.image(positions=True),
    projector=dict(name='linear', width=128),
    decoder=dict(
      name='text',
      **shapes_base.TRANSFORMER,
      depth=4,
      cross_attention=False,
      positions='none',
      block=dict(rope_theta=1e4),
    ),
    image_codes=dict(
      name='token_codes', width=128, mlp_dim=256, size=1000, token_dim=32
    ),
    autoencoder=tokenize_shapes.get_config().model,
  )
  config.tasks = dict(
    captioning=dict(weight=1.0),
    vqa_generation=dict(weight=1.0),
    generate_image=dict(weight=1.0, guidance=3.0),
  )
  config.optimizer = shapes_base.optimizer(
    lr=3e-3,
    schedule='cosine',
    warmup_steps=100,
    freeze=('^autoencoder/',),
  )
  config.optimizer.update(
    name='muon', no_muon=('^image_codes/head/down', '^vision/stem_layers')
  )
  config.train = dict(
    steps=2500,
    batch_size=16,
    ema_decay=0.998,
    log_every=100,
    eval_every=1000,
    checkpoint_every=500,
    keep_best='',
    # That of configs/vqa_shapes.py is the same, and draws nothing.
    blind_baseline=False,
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.train.update(steps=200, eval_every=0, ema_decay=0.95)
    config.optimizer.warmup_steps = 20
    config.eval = dict(batch_size=50, num_examples=50)
  return config
