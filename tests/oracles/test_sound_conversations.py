"""Conversations with sounds are prepared as Qwen2-Audio's processor does."""

import collections
from pathlib import Path

import jax
import numpy as np
import transformers

from mmjax import encoders
from mmjax.data import audio, chat_templates
from tests.data import chat_forms, chat_tokenizer
from tests.oracles import conversations

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


def _draw(rng):
  # From two tokens to the whole window.
  samples = rng.uniform(-1, 1, rng.choice([700, 5_000, 9_999, 16_000]))
  file = audio.encode_wave(samples[rng.integers(50) :], RATE)
  return 'heard', file, {'type': 'audio', 'audio': audio.decode(file)[0]}


def test_conversations_are_those_of_the_processor(tmp_path):
  """Ids, what is learnt, positions, spectrograms and their masks."""
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
  ours = conversations.build(
    tmp_path,
    tokenizer,
    (MARKED, (GOLDEN / chat_templates.FILE).read_text()),
    {
      'length': LENGTH,
      'packed': True,
      'sound': 'heard',
      'sound_placeholder': TOKENS[0],
    },
    heard={'kind': 'sounds', 'number': 6, 'seconds': 1.0, 'merged': 2},
  )
  compute = jax.jit(encoders.FromSamples(None, num_mels=BANDS).compute)
  numbers = collections.Counter()
  for messages, record in conversations.make_records(_draw):
    want, example = conversations.compare(processor, messages, ours, record)
    number = len(record['fields'].get('heard', ()))
    numbers[number] += 1
    assert example['heard_mask'].any(axis=1).sum() == number
    # The encoder's numbers are those of a few; the rest is words.
    if number and numbers[number] <= 3:
      spectrogram, frames = compute(example['heard'], example['heard_mask'])
      features = np.asarray(want['input_features']).transpose(0, 2, 1)
      np.testing.assert_array_equal(
        frames[:number], want['feature_attention_mask']
      )
      # White noise: 5e-6, as of Whisper's.
      np.testing.assert_allclose(
        spectrogram[:number], features, rtol=0, atol=1e-5
      )
  assert numbers[0] and max(numbers) > 4
