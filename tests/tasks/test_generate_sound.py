"""Speaking: what is refused, what a run gives, and what is measured."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import evaluators, models, tasks
from mmjax.cli import predict_output
from mmjax.data import (
  audio,
  melodies,
  melody_reader,
  preprocess,
  tokenizers,
)
from mmjax.errors import ConfigError
from tests.data import test_melody_reader
from tests.tasks import token_cases


def make_preprocessor(**sound):
  built = preprocess.build(
    {
      'sound': {'kind': 'sound', **sound},
      'text': {'kind': 'text', 'field': 'captions', 'length': 20},
    }
  )
  return preprocess.Preprocessor(built, tokenizers.make_byte_tokenizer())


def test_guidance_needs_a_half_without_a_text():
  with pytest.raises(ConfigError, match='that was trained without a text too'):
    tasks.GenerateSound(drop_condition=0.0, guidance=2.0).check()


def test_a_run_speaks_a_text_as_its_seed_says(tmp_path):
  preprocessor = make_preprocessor(rate=100, seconds=0.2)
  module = models.build(
    token_cases.SPEAKER,
    models.DataSizes(preprocessor.tokenizer.vocab_size, text_length=20),
  )
  batch = preprocessor.prepare(sound=[np.zeros(20)], text=['a'])
  made = nn.meta.unbox(module.init(jax.random.key(0), batch, train=False))
  run = types.SimpleNamespace(
    tasks={'generate_sound': tasks.GenerateSound(guidance=1.5)},
    preprocessor=preprocessor,
    tokenizer=preprocessor.tokenizer,
    prepare=preprocessor.prepare,
    predict=lambda make, batch, **settings: make(module, **settings)(
      made['params'], batch
    ),
  )
  speak = tasks.GenerateSound.methods['speak']
  first, second = speak(run, ['do re', 'do re'], seed=3)
  assert first.shape == (20,)  # Of 4 tokens of 6 samples.
  assert np.abs(first - second).max() > 1e-3
  # Another batch, in which sums may have another order.
  again = speak(run, 'do re', seed=4)
  np.testing.assert_allclose(again[0], second, atol=1e-5)
  with pytest.raises(ConfigError, match='but the model reads 20; shorten it'):
    speak(run, 'do re mi ' * 9)
  use = tasks.GenerateSound.predict_use
  assert use.make_lines(run, {}, ['do re'], 1) == []
  file = tmp_path / 'a.wav'
  predict_output.write_sound(use.play, run, {}, ['do re'], str(file))
  assert audio.decode(file.read_bytes())[1] == 100
  check = predict_output.check_use
  with pytest.raises(ConfigError, match=r'add --output=FILE\.wav'):
    check(use, 'run', None, [{}], ['do'])
  with pytest.raises(ConfigError, match='but there are 2 texts; use one --te'):
    check(use, 'run', 'a.wav', [{}], ['do', 're'])
  with pytest.raises(ConfigError, match=r'makes a sound; use --output=FILE\.w'):
    check(use, 'run', 'a.png', [{}], ['do'])


def test_sounds_are_right_where_the_reader_says_so():
  names = melodies.NAMES[:3]
  sounds = np.stack([test_melody_reader.make(x, 5) for x in names])
  records = [
    {
      'id': melody,
      'fields': {
        'sound': audio.encode_wave(sound, 4_000),
        'captions': [f'{melody} tones'],
      },
      'metadata': {},
    }
    for melody, sound in zip(names, sounds, strict=True)
  ]
  records[1]['fields']['sound'] = None
  values = jnp.asarray(sounds, jnp.float32)
  evaluator = evaluators.Spoken(
    lambda params, batch: values[batch['seed'] % 3],
    lambda params, batch: values[(batch['seed'] + 1) % 3],
    records,
    make_preprocessor(rate=4_000, seconds=1.1),
    feature='sound',
    condition='text',
    batch_size=2,
    holds=functools.partial(melody_reader.holds, rate=4_000),
    name='spoken',
  )
  assert evaluator.render() is None
  found = dict(evaluator.run({}))
  assert found.pop('spoken/spectrum_error') < 1e-3  # 16 bits a sample.
  assert found == {
    'spoken/right': 1.0,
    'spoken/unconditional': 0.0,
    'spoken/true': 1.0,
  }
  assert evaluator.render().width > 48
