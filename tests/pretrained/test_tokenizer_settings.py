"""tokenizer_config.json changes a tokenizer as it does in transformers."""

import json
import pathlib
import shutil

import pytest
import tokenizers

from mmjax import pretrained
from mmjax.errors import ConfigError
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
      {},
      {'added_tokens_decoder': {'5': {'content': '</s>'}}},
      "gives '</s>' the id 5, but the tokenizer gives it 1",
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


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'two': 2, 'one': {}},
      'tokenizer_config.json: mmjax does not know one',
    ),
    ({'vocab': {'a': 0}}, r"vocab is {'a': 0}; mmjax reads only None here"),
    ({'truncation_side': 'up'}, "truncation_side is 'up', not one of left, ri"),
    ({'model_specific_special_tokens': 3}, 'tokens is 3, not an object'),
    ({'pad_token': 3}, 'pad_token is 3, not a token'),
    ({'image_token': {'lstrip': 1}}, 'image_token is .*, not a token'),
  ],
)
def test_keys_and_values_that_nothing_reads_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    encode('cat', **settings)


def test_spaces_are_cleaned_up_in_what_is_written():
  tokenizer = tokenizers.Tokenizer.from_file(
    str(GOLDEN / 'llama/tokenizer.json')
  )
  tokenizer.add_tokens(['.', "n't"])
  ids = tokenizer.encode("a cat n't .").ids
  assert tokenizer.decode(ids) == "a cat n't ."
  tokenizer_settings.apply(tokenizer, {'clean_up_tokenization_spaces': True})
  assert tokenizer.decode(ids) == "a catn't."


def test_the_sides_of_texts(tmp_path):
  folder = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  file = folder / 'tokenizer_config.json'
  file.write_text('{"truncation_side": "left"}')
  model = pretrained.load(folder)
  whole = model.tokenizer.encode('red ' + 'a ' * 99)
  assert model.tokenizer.id_to_token(whole.ids[1]) == 'a'
  file.write_text('{"padding_side": "left"}')
  with pytest.raises(ConfigError, match="padding_side is 'left', but mmjax"):
    pretrained.load(folder).encode_text('cat')


def test_named_tokens_are_not_split_or_are_refused(tmp_path):
  shutil.copytree(GOLDEN / 'llama', tmp_path, dirs_exist_ok=True)
  settings = tmp_path / tokenizer_settings.FILE
  settings.write_text(json.dumps({'sep_token': 'cat'}))
  tokenizer = pretrained.load(tmp_path).tokenizer
  assert 'cat' in tokenizer.encode('xcatx').tokens
  settings.write_text(json.dumps({'pad_token': '<none>'}))
  with pytest.raises(ConfigError, match="pad_token names '<none>', which"):
    _ = pretrained.load(tmp_path).tokenizer
