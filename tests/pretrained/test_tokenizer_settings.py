"""tokenizer_config.json changes a tokenizer as it does in transformers."""

import json
import pathlib

import pytest
import tokenizers

from mmjax.pretrained import tokenizer_settings

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def encode(text, name='llama', changes=(), **settings):
  file = json.loads((GOLDEN / name / 'tokenizer.json').read_text())
  file |= dict(changes)
  tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
  tokenizer_settings.apply(tokenizer, settings)
  return tokenizer.encode(text).tokens


def test_special_tokens_that_are_typed():
  whole = encode('cat </s> a')
  split = encode('cat </s> a', split_special_tokens=True)
  assert '</s>' in whole and '</s>' not in split


BERT = {
  'type': 'BertNormalizer',
  'clean_text': True,
  'handle_chinese_chars': True,
  'strip_accents': None,
  'lowercase': True,
}
BYTES = {
  'type': 'ByteLevel',
  'add_prefix_space': False,
  'trim_offsets': True,
  'use_regex': True,
}


@pytest.mark.parametrize(
  ('changes', 'settings', 'message'),
  [
    (
      {'normalizer': BERT},
      {'do_lower_case': False},
      'case is False, but',
    ),
    (
      {'normalizer': {'type': 'Sequence', 'normalizers': [BERT]}},
      {'strip_accents': True},
      'strip_accents is True, but strip_accents in tokenizer.json is None',
    ),
    (
      {'pre_tokenizer': BYTES},
      {'add_prefix_space': True},
      'add_prefix_space is True, but add_prefix_space in tokenizer.json is Fal',
    ),
  ],
)
def test_files_that_contradict_each_other_are_refused(
  changes, settings, message
):
  with pytest.raises(ValueError, match=message):
    encode('cat', changes=changes, **settings)


def test_files_that_agree_are_read():
  same = {'do_lower_case': True, 'strip_accents': None, 'model_max_length': 5}
  assert encode('CAT', changes={'normalizer': BERT}, **same) == ['<s>', 'cat']
