"""Settings of generation_config.json: what they become, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from mmjax import pretrained
from mmjax.pretrained import generation_keys, generation_settings

GOLDEN = Path(__file__).parent / 'golden'
FILE = generation_settings.FILE
NO = float('-inf')


def arguments(given, eos_ids=(1, 2), speech=False, **asked):
  return generation_settings.arguments(
    given, FILE, asked, eos_ids=eos_ids, speech=speech
  )


BEAMS = {'beam_size': 4, 'scoring': 'transformers'}
SAMPLES = {'do_sample': True, 'temperature': 0.7, 'top_p': 0.8, 'min_p': None}


@pytest.mark.parametrize(
  ('given', 'asked', 'expected'),
  [
    ({}, {}, {}),
    ({'repetition_penalty': 1.3}, {}, {'repetition_penalty': 1.3}),
    # The caller's come first.
    (
      {'repetition_penalty': 1.3, 'no_repeat_ngram_size': 2},
      {'repetition_penalty': 1.0},
      {'repetition_penalty': 1.0, 'no_repeat_ngram': 2},
    ),
    # An end is not a bad word.
    (
      {'bad_words_ids': [[2], [3], [2, 4]], 'sequence_bias': [[[5], 1]]},
      {},
      {'biases': (((5,), 1.0), ((3,), NO), ((2, 4), NO))},
    ),
    (
      {'forced_eos_token_id': [2], 'forced_bos_token_id': 3},
      {},
      {'forced_last': 2, 'forced_first': 3},
    ),
    (
      {'suppress_tokens': [], 'begin_suppress_tokens': [4, 5]},
      {},
      {'suppress': (), 'suppress_first': (4, 5)},
    ),
    # transformers filters the 50 likeliest where a file that samples is silent.
    (SAMPLES, {}, {'temperature': 0.7, 'top_k': 50, 'top_p': 0.8}),
    (SAMPLES, {'temperature': 0}, {'temperature': 0}),
    ({**SAMPLES, 'min_p': 0.1}, {'temperature': 0}, {'temperature': 0}),
    (
      {'top_k': 7, 'do_sample': False},
      {'temperature': 1.0},
      {'temperature': 1.0, 'top_k': 7, 'top_p': 1.0},
    ),
    # Without sampling nothing is filtered.
    ({'top_k': 7, 'temperature': 0.1, 'typical_p': 0.2}, {}, {}),
    (
      {'num_beams': 4, 'length_penalty': 2.0},
      {'beam_size': 1},
      {'beam_size': 1},
    ),
    (
      {'num_beams': 4, 'length_penalty': 2.0},
      {'length_penalty': 0.6},
      {**BEAMS, 'length_penalty': 0.6, 'early_stopping': False},
    ),
    (
      {'early_stopping': 'never', 'length_penalty': 2},
      {'beam_size': 3},
      {
        **BEAMS,
        'beam_size': 3,
        'length_penalty': 2,
        'early_stopping': 'never',
      },
    ),
    (
      {'num_beams': 4, 'early_stopping': True, **SAMPLES},
      {'temperature': 0},
      {
        **BEAMS,
        'length_penalty': 1.0,
        'early_stopping': True,
        'temperature': 0,
      },
    ),
    # Without beams nothing reads their settings.
    ({'num_beams': 1, 'early_stopping': 3, 'length_penalty': 2.0}, {}, {}),
  ],
)
def test_settings_become_arguments(given, asked, expected):
  assert arguments(given, **asked) == expected


@pytest.mark.parametrize(
  ('given', 'asked', 'message'),
  [
    *(
      ({name: 7}, {}, f'{FILE}: {name} is 7; mmjax writes only with')
      for name in generation_keys.ONLY
    ),
    *(
      ({'do_sample': True, name: 0.5}, {}, f'{name} is 0.5; mmjax writes only')
      for name in generation_keys.ONLY_SAMPLING
    ),
    *(
      ({name: 7}, {'beam_size': 2}, f'{name} is 7; mmjax writes only')
      for name in generation_keys.ONLY_BEAMS
    ),
    ({'num_beams': 0}, {}, f'{FILE}: num_beams is 0; give at least 1'),
    ({'num_beams': 2.5}, {}, 'num_beams is 2.5; mmjax reads only a whole'),
    (
      {'num_beams': 2, 'do_sample': True},
      {},
      f'{FILE}: do_sample asks for sampling, which excludes 2 beams; pass',
    ),
    (
      {'num_beams': 2},
      {'temperature': 1.0},
      'temperature asks for sampling, which excludes 2 beams',
    ),
    (
      {'num_beams': 2, 'early_stopping': 'soon'},
      {},
      "early_stopping is 'soon'; mmjax reads only true, false and 'never'",
    ),
    (
      {'num_beams': 2, 'num_beam_groups': 2},
      {},
      'num_beam_groups is 2; mmjax writes only with 1',
    ),
    ({'new_magic': 1}, {}, f'{FILE}: mmjax does not know new_magic'),
    ({'lang_to_id': {}}, {}, 'does not know lang_to_id'),
    (
      {'do_sample': True},
      {'beam_size': 2},
      'do_sample asks for sampling, which excludes 2 beams',
    ),
    ({'repetition_penalty': 'a'}, {}, "is 'a'; mmjax reads only a number"),
    ({'min_length': 2.5}, {}, 'min_length is 2.5; mmjax reads only a whole'),
    ({'bad_words_ids': [3]}, {}, 'bad_words_ids has 3; mmjax reads lists of'),
    ({'sequence_bias': [[3, 1]]}, {}, 'sequence_bias has 3; mmjax reads lists'),
    ({'sequence_bias': [[3]]}, {}, r'has \[3\]; mmjax reads pairs'),
    ({'forced_eos_token_id': [1, 2]}, {}, r'forced_eos_token_id is \[1, 2\]'),
  ],
)
def test_what_is_not_honoured_is_refused(given, asked, message):
  with pytest.raises(ValueError, match=message):
    arguments(given, **asked)


def test_a_speech_recognizer_has_more_settings():
  assert arguments({'lang_to_id': {}, 'language': 'en'}, speech=True) == {}
  for name in generation_keys.ONLY_SPEECH:
    with pytest.raises(ValueError, match=f'{name} is 7; mmjax writes only'):
      arguments({name: 7}, speech=True)


@pytest.mark.parametrize(
  ('given', 'asked', 'expected'),
  [
    ({}, None, 64),
    ({}, 3, 3),
    ({'max_length': 20}, None, 15),
    ({'max_length': 20, 'max_new_tokens': 9}, None, 9),
    ({'max_length': 20}, 30, 30),
  ],
)
def test_how_much_is_written(given, asked, expected):
  assert (
    generation_settings.find_max_new_tokens(given, FILE, asked, 5) == expected
  )


def test_a_prompt_that_leaves_no_room_is_refused():
  for settings, number, message in (
    ({'max_new_tokens': -3}, None, f'{FILE}: max_new_tokens is -3; give at'),
    ({'max_new_tokens': 3}, 0, '^max_new_tokens is 0; give at least 1'),
  ):
    with pytest.raises(ValueError, match=message):
      generation_settings.find_max_new_tokens(settings, FILE, number, 5)
  with pytest.raises(ValueError, match='max_length is 5, but the prompt has 5'):
    generation_settings.find_max_new_tokens({'max_length': 5}, FILE, None, 5)


def test_without_the_file_config_json_has_the_settings():
  config = {
    'repetition_penalty': 2.0,
    'max_length': None,
    # What transformers 4 wrote into every part is not a setting.
    'text_config': {'max_length': 20, 'top_k': 50, 'no_repeat_ngram_size': 3},
    'hidden_size': 5,
  }
  expected = {'repetition_penalty': 2.0, 'no_repeat_ngram_size': 3}
  assert generation_settings.read({}, config) == (expected, 'config.json')
  assert generation_settings.read({FILE: b'{"top_k": 1}'}, config) == (
    {'top_k': 1},
    FILE,
  )


def change_settings(name, **settings):
  model = pretrained.load(GOLDEN / name)
  plain = json.loads(model.files.get(FILE, b'{}'))
  files = {**model.files, FILE: json.dumps({**plain, **settings}).encode()}
  return dataclasses.replace(model, files=files)


@pytest.mark.parametrize(
  ('name', 'write'),
  [
    ('qwen2', lambda model: model.generate('cat')),
    ('t5', lambda model: model.generate('cat')),
    ('llava', lambda model: model.generate([[]], ['cat'])),
    ('blip2_opt', lambda model: model.generate([[]], ['cat'])),
    ('whisper', lambda model: model.transcribe([[0.0] * 160])),
  ],
)
def test_a_model_loads_but_does_not_write_what_is_refused(name, write):
  model = change_settings(name, new_magic=1)
  with pytest.raises(ValueError, match='does not know new_magic'):
    write(model)


@pytest.mark.parametrize('name', ['blip2_opt', 'blip_captions'])
def test_settings_that_transformers_does_not_read_are_refused(name):
  """It gives the language model inside none of the file's."""
  given, file = generation_settings.read(
    change_settings(name, repetition_penalty=2.0).files, {}
  )
  with pytest.raises(ValueError, match='which transformers does not read'):
    generation_settings.refuse_unread(given, file)
  given = {**given, 'repetition_penalty': 1.0, 'top_k': 3, 'max_length': 20}
  generation_settings.refuse_unread(given, file)


def test_ids_of_blip2_are_those_of_its_language_model():
  model = change_settings('blip2_opt', eos_token_id=9)
  assert model.eos_ids == (model.config['text_config']['eos_token_id'],)
