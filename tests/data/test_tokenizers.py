"""Tokenizers: round trips, the special tokens, foreign files."""

import functools
import json
import pickle

import numpy as np
import pytest
import tokenizers as library
from tokenizers import models, pre_tokenizers

from mmjax.data import tokenizers
from mmjax.errors import ConfigError

TEXTS = [
  'a small red circle at the top left',
  'two large blue squares, a green star.',
  'What color is the circle?',
]
ORDINARY = [
  '',
  'red',
  'a small red circle at the top left',
  'Never  seen: "naïve" 猫 🙂, (x+1) = 2!',
  'two lines\nand\ta tab ',
  '<eos> typed <pad> by a user',
]


@pytest.fixture(params=['bpe', 'bytes'])
def tokenizer(request):
  if request.param == 'bytes':
    return tokenizers.make_byte_tokenizer()
  return tokenizers.train_bpe(TEXTS, 300)


@pytest.mark.parametrize('text', ORDINARY)
def test_decode_inverts_encode(tokenizer, text):
  ids, _ = tokenizer.encode(text, 101)
  assert tokenizer.decode(ids) == text


def test_layout_of_a_sequence(tokenizer):
  ids, mask = tokenizer.encode('red', 11)
  end = tokenizer.count('red')
  assert ids.dtype == np.int32 and mask.dtype == bool
  assert ids[0] == tokenizers.BOS_ID
  assert ids[end - 1] == tokenizers.EOS_ID
  assert (ids[end:] == tokenizers.PAD_ID).all()
  assert mask.tolist() == [True] * end + [False] * (11 - end)
  assert tokenizers.UNK_ID not in ids


def test_truncation_keeps_eos(tokenizer):
  ids, mask = tokenizer.encode('a small red circle at the top left', 5)
  assert ids.shape == (5,) and mask.all()
  assert ids[-1] == tokenizers.EOS_ID
  assert 'a small red circle'.startswith(tokenizer.decode(ids))


def test_too_short_a_length_is_refused(tokenizer):
  with pytest.raises(ValueError, match='length 1'):
    tokenizer.encode('red', 1)


def test_decode_stops_at_eos_and_accepts_arrays(tokenizer):
  ids, _ = tokenizer.encode('red', 11)
  tail, _ = tokenizer.encode('blue', 11)
  assert tokenizer.decode(np.concatenate([ids, tail])) == 'red'
  assert tokenizer.decode([]) == ''


def test_words_have_one_id_in_any_position():
  tokenizer = tokenizers.train_bpe(['red star', 'star red'] * 5, 300)
  first, second = tokenizer.tokenize('red star'), tokenizer.tokenize('star red')
  assert len(first) == 2
  assert first == second[::-1]


def test_training_is_deterministic_and_order_free():
  first = tokenizers.train_bpe(TEXTS, 290)
  again = tokenizers.train_bpe(iter(TEXTS[::-1]), 290)
  assert first == again
  assert first.vocab_size == 290


def test_lower_is_an_option():
  tokenizer = tokenizers.train_bpe(TEXTS, 270, lower=True)
  assert tokenizer.decode(tokenizer.encode('A Red', 20)[0]) == 'a red'


def test_small_vocabulary_is_refused():
  with pytest.raises(ValueError, match='vocab_size 100'):
    tokenizers.train_bpe(TEXTS, 100)


def test_byte_ids_are_the_bytes():
  tokenizer = tokenizers.make_byte_tokenizer()
  ids, mask = tokenizer.encode('é', 4)
  assert ids.tolist() == [1, 4 + 0xC3, 4 + 0xA9, 2]
  assert mask.all()


def test_save_load_and_pickle(tokenizer, tmp_path):
  path = tmp_path / 'tokenizer.json'
  tokenizer.save(path)
  for copy in (
    tokenizers.Tokenizer.load(path),
    pickle.loads(pickle.dumps(tokenizer)),
  ):
    assert copy == tokenizer
    assert copy.vocab_size == tokenizer.vocab_size
    for text in ORDINARY:
      assert (copy.encode(text, 31)[0] == tokenizer.encode(text, 31)[0]).all()
      assert copy.decode(copy.encode(text, 101)[0]) == text


def _make_foreign(*names):
  vocabulary = {name: i for i, name in enumerate([*names, 'red', 'star'])}
  model = models.WordLevel(vocabulary, unk_token=names[0])
  tokenizer = library.Tokenizer(model)
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.add_special_tokens(list(names))
  return tokenizer


def test_foreign_specials_are_found_by_name(tmp_path):
  _make_foreign('[UNK]', '[SEP]', '[PAD]', '[CLS]').save(
    str(tmp_path / 't.json')
  )
  tokenizer = tokenizers.Tokenizer.load(tmp_path / 't.json')
  special = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
  assert special == (2, 3, 1)
  ids, _ = tokenizer.encode('red star', 6)
  assert ids.tolist() == [3, 4, 5, 1, 2, 2]
  assert tokenizer.decode(ids) == 'red star'


@pytest.mark.parametrize(
  ('settings', 'pad'),
  [
    ({'pad_token': '</s>'}, 2),
    ({'pad_token': {'content': '</s>', 'lstrip': False}}, 2),
    ({'pad_token': '<ghost>'}, 0),  # It is not in the vocabulary.
    ({'pad_token': None}, 0),
    ({}, 0),
  ],
)
def test_padding_is_that_of_the_configuration_file(tmp_path, settings, pad):
  foreign = _make_foreign('<pad>', '<s>', '</s>')
  foreign.enable_padding(pad_id=0, pad_token='<pad>')
  foreign.save(str(tmp_path / 'tokenizer.json'))
  path = tmp_path / 'tokenizer_config.json'
  path.write_text(json.dumps(settings))
  load = functools.partial(
    tokenizers.Tokenizer.load, tmp_path / 'tokenizer.json'
  )
  assert load().pad_id == pad
  assert load(pad='<s>').pad_id == 1
  (tmp_path / 'run').mkdir()
  load().save(tmp_path / 'run' / 'tokenizer.json')
  kept = tokenizers.Tokenizer.load(tmp_path / 'run' / 'tokenizer.json')
  assert kept.pad_id == pad


def test_an_end_of_another_name_is_that_of_the_configuration_file(tmp_path):
  _make_foreign('<?>', '<|return|>').save(str(tmp_path / 'tokenizer.json'))
  path = tmp_path / 'tokenizer_config.json'
  path.write_text(json.dumps({'eos_token': '<|return|>'}))
  assert tokenizers.Tokenizer.load(tmp_path / 'tokenizer.json').eos_id == 1


@pytest.mark.parametrize('content', ['{"pad_tok', '[]'])
def test_a_broken_configuration_file_is_named(tmp_path, content):
  _make_foreign('<s>', '</s>').save(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer_config.json').write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer_config\.json (is|holds)'):
    tokenizers.Tokenizer.load(tmp_path / 'tokenizer.json')


def test_named_specials_survive_saving(tmp_path):
  foreign = _make_foreign('<?>', '<end>')
  tokenizer = tokenizers.Tokenizer(foreign, pad='<?>', bos='<end>', eos='<end>')
  ids, mask = tokenizer.encode('red', 4)
  assert ids.tolist() == [1, 2, 1, 0]
  assert mask.tolist() == [True, True, True, False]
  assert tokenizer.decode(ids) == 'red'
  tokenizer.save(tmp_path / 't.json')
  again = tokenizers.Tokenizer.load(tmp_path / 't.json', bos='<end>')
  assert again == tokenizer
  assert again.bos_id == tokenizer.bos_id


def test_lower_case_is_an_option(tmp_path):
  _make_foreign('<s>', '</s>').save(str(tmp_path / 't.json'))
  load = functools.partial(tokenizers.Tokenizer.load, tmp_path / 't.json')
  want, _ = load().encode('red star', 6)
  got, _ = load(lower_case=True).encode('Red STAR', 6)
  np.testing.assert_array_equal(got, want)
  load(lower_case=True).save(tmp_path / 'kept.json')
  kept = tokenizers.Tokenizer.load(tmp_path / 'kept.json')
  np.testing.assert_array_equal(kept.encode('RED star', 6)[0], want)
  other, _ = load().encode('Red STAR', 6)
  assert other.tolist() != want.tolist()


def test_marks_at_the_ends_of_words_are_written_as_spaces(tmp_path):
  pieces = ['<s>', '</s>', 't', 'o</w>', 'to</w>', '.</w>']
  foreign = library.Tokenizer(
    models.BPE(
      {piece: i for i, piece in enumerate(pieces)},
      [('t', 'o</w>')],
      end_of_word_suffix='</w>',
    )
  )
  foreign.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  foreign.decoder = library.decoders.ByteLevel()
  tokenizer = tokenizers.Tokenizer(foreign)
  ids, _ = tokenizer.encode('to to .', 7)
  assert tokenizer.decode(ids) == 'to to .'
  tokenizer.save(tmp_path / 't.json')
  assert tokenizers.Tokenizer.load(tmp_path / 't.json') == tokenizer


def _surround(before, after):
  """Makes a tokenizer that adds tokens before and after each text."""
  foreign = _make_foreign('<s>', '</s>', '[DEC]')
  around = sorted({*before, *after})
  foreign.post_processor = library.processors.TemplateProcessing(
    single=[*before, '$A', *after],
    special_tokens=[(name, foreign.token_to_id(name)) for name in around],
  )
  return foreign


@pytest.mark.parametrize(
  ('before', 'after', 'ids'),
  [
    (['<s>'], ['</s>'], [0, 3, 1]),
    (['<s>'], [], [0, 3, 1]),  # Llama: its end is known by name.
    (['</s>'], [], [1, 3, 1]),  # OPT: one token starts and ends.
    ([], ['</s>'], [3, 1]),  # T5: nothing starts a text.
  ],
)
def test_a_file_keeps_its_tokens_around_a_text(before, after, ids):
  tokenizer = tokenizers.Tokenizer(_surround(before, after))
  assert tokenizer.encode('red', len(ids))[0].tolist() == ids
  assert tokenizer.decode(ids) == 'red'


def test_outputs_and_inputs_may_start_with_different_tokens():
  foreign = _surround(['<s>'], ['</s>'])
  tokenizer = tokenizers.Tokenizer(foreign, bos='[DEC]')
  assert tokenizer.bos_id == 2
  assert tokenizer.encode('red', 3)[0].tolist() == [2, 3, 1]
  assert tokenizer.encode('red', 3, as_input=True)[0].tolist() == [0, 3, 1]
  tokenizer = tokenizers.Tokenizer(_make_foreign('</s>', '[DEC]'), bos='[DEC]')
  assert tokenizer.encode('red', 2, as_input=True)[0].tolist() == [2, 0]


def test_missing_specials_are_named():
  with pytest.raises(ValueError, match=r"load\(path, eos='...'\)"):
    tokenizers.Tokenizer(_make_foreign('<?>'))
  with pytest.raises(ValueError, match="no token '<start>' to use as bos"):
    tokenizers.Tokenizer(_make_foreign('<?>', '<eos>'), bos='<start>')


def test_bad_files_are_refused(tmp_path):
  with pytest.raises(ConfigError, match='no tokenizer at'):
    tokenizers.Tokenizer.load(tmp_path / 'none.json')
  (tmp_path / 'bad.json').write_text('{}')
  with pytest.raises(ValueError, match=r'not a tokenizer\.json'):
    tokenizers.Tokenizer.load(tmp_path / 'bad.json')
