"""Conversations with sounds are prepared here as Qwen2-Audio's processor does.

MMJAX_CONVERSATIONS sets how many, 40 by default.
"""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
import transformers

from mmjax import encoders
from mmjax.data import audio, chat_templates, chat_tokenizers, preprocess
from tests.data import chat_forms, chat_tokenizer
from tests.oracles import harness

NUMBER = int(os.environ.get('MMJAX_CONVERSATIONS', '40'))
GOLDEN = Path(__file__).parents[1] / 'pretrained/golden/qwen2_audio'
RATE, BANDS, LENGTH = 16_000, 10, 768
TOKENS = ['<|AUDIO|>', '<|audio_bos|>', '<|audio_eos|>']
# The golden folder's template, with what the assistant says marked.
MARKED = chat_forms.mark("""
{%- set count = namespace(value=0) -%}
{%- for message in messages -%}
  {%- if loop.first and message.role != 'system' -%}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}
  {%- endif -%}
  {{- '<|im_start|>' + message.role + '\n' -}}
  {%- if message.role == 'assistant' -%}
    {#begin#}
    {%- if message.content is string -%}{{- message.content -}}
    {%- else -%}{{- message.content[0].text -}}{%- endif -%}
    {{- '<|im_end|>' -}}
    {#end#}
  {%- elif message.content is string -%}
    {{- message.content + '<|im_end|>' -}}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'audio' -%}
        {%- set count.value = count.value + 1 -%}
        {{- 'Audio ' ~ count.value ~ ': ' -}}
        {{- '<|audio_bos|><|AUDIO|><|audio_eos|>\n' -}}
      {%- else -%}
        {{- part.text -}}
      {%- endif -%}
    {%- endfor -%}
    {{- '<|im_end|>' -}}
  {%- endif -%}
  {{- '\n' -}}
{%- endfor -%}
""")


def make_records(number, rng):
  """Messages as transformers reads them, and the same as our records."""
  for at, messages in enumerate(
    chat_forms.make_conversations(number, 11, parts=True)
  ):
    files, turns = [], []
    for message in messages:
      order = rng.permutation(len(message['content']))
      parts = [dict(message['content'][i]) for i in order]
      content = []
      for part in parts:
        if part['type'] == 'text':
          content.append(part['text'])
          continue
        # From two tokens to the whole window.
        samples = rng.uniform(-1, 1, rng.choice([700, 5_000, 9_999, 16_000]))
        files.append(audio.encode_wave(samples[rng.integers(50) :], RATE))
        part |= {'type': 'audio', 'audio': audio.decode(files[-1])[0]}
        content.append({'field': 'heard'})
      message['content'] = parts
      turns.append({'role': message['role'], 'content': content})
    fields = {'t': turns, 'heard': files or None}
    yield messages, {'id': str(at), 'fields': fields, 'metadata': {}}


@pytest.mark.parametrize('kind', ['marked', 'own'])
def test_conversations_are_those_of_the_processor(kind, tmp_path):
  """Ids, what is learnt, spectrograms and their masks."""
  tokenizer = chat_tokenizer.make()
  tokenizer.add_special_tokens(TOKENS)
  names = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, **chat_forms.TOKENS
  )
  processor = transformers.Qwen2AudioProcessor(
    transformers.WhisperFeatureExtractor(feature_size=BANDS, chunk_length=1),
    names,
    chat_template=MARKED,
  )
  own = (GOLDEN / chat_templates.FILE).read_text()
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  chat_templates.ChatTemplate(
    {'default': {'marked': MARKED, 'own': own}[kind]}, chat_forms.TOKENS
  ).save(tmp_path)
  turns = {'kind': 'turns', 'length': LENGTH, 'sound': 'heard'}
  sounds = {'kind': 'sounds', 'number': 6, 'seconds': 1.0, 'merged': 2}
  prepare = preprocess.Preprocessor(
    preprocess.build(
      {'t': {**turns, 'placeholder': TOKENS[0]}, 'heard': sounds}
    ),
    chat_tokenizers.load(tmp_path / 'tokenizer.json'),
  )
  compute = jax.jit(encoders.FromSamples(None, num_mels=BANDS).compute)
  numbers = set()
  for messages, record in make_records(NUMBER, np.random.default_rng(3)):
    want, example = harness.compare_conversation(
      processor, messages, prepare, record, LENGTH
    )
    number = len(record['fields']['heard'] or ())
    numbers.add(number)
    assert example['heard_mask'].any(axis=1).sum() == number
    if number:
      spectrogram, frames = compute(example['heard'], example['heard_mask'])
      features = np.asarray(want['input_features']).transpose(0, 2, 1)
      np.testing.assert_array_equal(
        frames[:number], want['feature_attention_mask']
      )
      # White noise: 5e-6, as of Whisper's.
      np.testing.assert_allclose(
        spectrogram[:number], features, rtol=0, atol=1e-5
      )
  assert 0 in numbers and max(numbers) > 2
