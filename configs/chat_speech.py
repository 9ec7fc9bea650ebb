r"""Spoken questions about drawings, answered in writing.

The language model of `configs/chat_emoji.py`, which sees drawings, gets the
encoder of a Whisper (Radford et al. 2022), four tokens of which become one,
12.5 a second, and a projector to the language model's width. Trained are that
projector and new adapters of all dense layers of the language model; the
encoders stay as they are.

  python -m benchmarks.spoken_questions --input=emoji_chat \
    --output=spoken_emoji
  mmjax data import --format=jsonl --input=spoken_emoji/conversations.jsonl \
    --name=spoken_emoji \
    --fields=photos=images:images,sounds=sounds:sounds,turns=turns:turns \
    --split_names=names=names,groups=groups,tags=tags,words=words
  chat=runs/chat_emoji
  python -m experiments.chat --config=configs/chat_speech.py \
    --config.init_from=vision=$chat,image_projector=$chat,decoder=$chat,\
audio=openai/whisper-base \
    --workdir=runs/chat_speech
"""

import chat_emoji
import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a few steps."""
  chosen = variants.chosen(arg, 'runlocal')
  config = chat_emoji.get_config(arg)

  config.data.name = 'spoken_emoji'
  config.data.test_split = 'names'
  config.data.extra_splits = ('groups', 'tags', 'words')
  config.data.features.turns.update(
    sound='sounds',
    sound_placeholder='<jupyter_script>',  # Without use either.
    length=96,
    packed=False,
  )
  config.data.features.photos.number = 1
  config.data.features.sounds = dict(kind='sounds', number=1, seconds=3.0)
  config.model = dict(
    name='interleaved_audio',
    placeholders=(16, 15),  # '<empty_output>', '<jupyter_script>'
    vision=config.model.vision,
    image_projector=config.model.projector,
    audio=dict(name='audio_transformer', merged=4),
    projector=dict(name='mlp', width=576, mlp_dim=1024),
    decoder=config.model.decoder,
  )
  config.tasks.chat.update(sound='sounds', max_new_tokens=24)
  config.adapter.train = ('^projector/',)
  config.train.update(steps=500, batch_size=16)

  if 'runlocal' in chosen:
    config.train.update(steps=2, batch_size=2)
    config.eval.update(batch_size=2, num_examples=2)
  return config
