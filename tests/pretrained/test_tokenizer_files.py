"""Tokenizers of folders without a tokenizer.json."""

import json
import pathlib
import shutil

import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  sentence_pieces,
  tokenizer_files,
  tokenizer_settings,
)
from tests.pretrained import older_tokenizers, piece_files

GOLDEN = pathlib.Path(__file__).parent / 'golden_ids.json'


def build_tokenizer(folder):
  files = {path.name: path.read_bytes() for path in folder.iterdir()}
  tokenizer = tokenizer_files.build(files, json.loads(files['config.json']))
  file = tokenizer_settings.FILE
  settings = configs.parse(files.get(file, b'{}'), file)
  tokenizer_settings.apply(tokenizer, settings)
  return tokenizer


@pytest.mark.parametrize('which', older_tokenizers.FOLDERS)
def test_ids_are_those_of_transformers(which, tmp_path):
  """Of texts on which tokenizers differ, by ids from make_golden_ids.py."""
  tokenizer = build_tokenizer(older_tokenizers.write(tmp_path, which))
  expected = json.loads(GOLDEN.read_text())[which]
  for text, ids in zip(older_tokenizers.TEXTS, expected, strict=True):
    exact = older_tokenizers.is_exact(which, text)
    assert (tokenizer.encode(text).ids == ids) == exact, text


def test_a_folder_is_saved_with_the_files_that_it_had(tmp_path):
  source = GOLDEN.parent / 'golden/t5'
  folder = shutil.copytree(source, tmp_path / 'folder')
  (folder / 'tokenizer.json').unlink()
  older_tokenizers.write(folder, 't5, few gaps')
  loaded = pretrained.load(folder)
  pretrained.save(loaded, tmp_path / 'saved')
  saved = pretrained.load(tmp_path / 'saved')
  assert 'spiece.model' in saved.files and 'tokenizer.json' not in saved.files
  assert saved.tokenizer.to_str() == loaded.tokenizer.to_str()


def test_words_of_clip_are_written_without_their_ends(tmp_path):
  tokenizer = build_tokenizer(older_tokenizers.write(tmp_path, 'clip'))
  assert tokenizer.decode(tokenizer.encode('The cat').ids) == 'the cat'


def settings(**given):
  return {'tokenizer_config.json': json.dumps(given).encode()}


GAP = ('<extra_id_0>', 0.0, sentence_pieces.NORMAL)
UNIGRAM = piece_files.model([GAP], sentence_pieces.UNIGRAM, 0)
WHOLE = piece_files.model(
  [('cat', 0.0, sentence_pieces.USER)], sentence_pieces.UNIGRAM, 0
)
TWICE = piece_files.model([GAP, GAP], sentence_pieces.PAIRS, 0)


@pytest.mark.parametrize(
  ('which', 'changes', 'message'),
  [
    ('bert', {'vocab.txt': None}, r'no tokenizer\.json, .* and no vocab\.txt'),
    ('gpt2', {'merges.txt': None}, r'and no merges\.txt, which a GPT2Tok'),
    ('gpt2', settings(tokenizer_class='XTokenizer'), 'needs of a XTokenizer '),
    (
      'siglip',
      settings(additional_special_tokens=['<new>'], mask_token='<mask>'),
      'names <mask>, <new>; mmjax reads only the eos_token, unk_token, pad_tok',
    ),
    ('siglip', {'spiece.model': WHOLE}, 'has pieces that are never split, wh'),
    ('gpt2', settings(tokenizer_class=3), 'tokenizer_class is 3, not the name'),
    ('bert', {'vocab.txt': b'[PAD]\nthe\n[CL'}, 'vocab.txt lacks .UNK., .CLS'),
    ('bert', settings(cls_token='<s>'), 'vocab.txt lacks <s>: it is broken'),
    ('bert', settings(sep_token=None), 'sep_token is null, but'),
    ('bert', settings(strip_accents='no'), "strip_accents is 'no', not true"),
    ('bert', {'vocab.txt': b'\xff'}, 'vocab.txt is broken or cut off'),
    ('clip', {'merges.txt': b'#version: 0.2\na b c'}, "line 2 is 'a b c', not"),
    ('clip', {'merges.txt': b'a b\n\nc d\n'}, "merges.txt: line 2 is '', not"),
    ('clip', {'merges.txt': b'zz y'}, r'or merges\.txt is broken or cut off'),
    (
      'clip',
      {'vocab.json': b'{"a": -1}'},
      "vocab.json: 'a' has the id -1, not",
    ),
    (
      'gpt2',
      settings(added_tokens_decoder={'999': {'content': '<x>'}}),
      "'<x>' should have the id 999 .* has 331 by vocab.json",
    ),
    (
      'gpt2',
      settings(added_tokens_decoder={'4': {'content': '<x>', 'special': 1}}),
      'added_tokens_decoder: 4 is .* not a token',
    ),
    (
      'gpt2',
      settings(eos_token=7),
      'tokenizer_config.json: eos_token is 7, not',
    ),
    (
      'gpt2',
      {'special_tokens_map.json': b'{"additional_special_tokens": [2]}'},
      'special_tokens_map.json: additional_special_tokens is 2, not a token',
    ),
    (
      'gpt2',
      {'added_tokens.json': b'{"<x>": "1"}'},
      "added_tokens.json: '<x>' has the id '1', not",
    ),
    ('whisper', {'added_tokens.json': None}, r'lack <\|startoftranscript\|>'),
    ('whisper', settings(language='en'), "language is 'en'; without a"),
    ('t5', settings(extra_ids=-1), 'extra_ids is -1, not a whole number'),
    ('t5', {'spiece.model': b''}, 'spiece.model is broken or cut off'),
    ('t5', {'spiece.model': UNIGRAM}, 'has <extra_id_0> among its pieces'),
    (
      'llama',
      {'tokenizer.model': None},
      r'and no tokenizer\.model, which a Ll',
    ),
    ('llama', {'tokenizer.model': UNIGRAM}, 'kind 1, where .* has kind 2'),
    (
      'llama',
      {'tokenizer.model': TWICE},
      r'model is .* \(it has a piece twice',
    ),
    ('llama', {'tokenizer.model': b'\n\x7fa'}, 'is longer than the file'),
  ],
)
def test_what_can_not_be_read_is_named(which, changes, message, tmp_path):
  older_tokenizers.write(tmp_path, which)
  for name, content in changes.items():
    if content is None:
      (tmp_path / name).unlink()
    else:
      (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=message):
    build_tokenizer(tmp_path)
