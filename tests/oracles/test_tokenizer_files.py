"""Ids of folders without a tokenizer.json are transformers'."""

import io
import json

import pytest
import sentencepiece
import transformers

from mmjax.pretrained import tokenizer_files, tokenizer_settings
from tests.pretrained import older_tokenizers, test_tokenizer_files

# As the models of these families were trained.
UNIGRAM = {
  'model_type': 'unigram',
  'vocab_size': 140,
  'hard_vocab_limit': False,
  'normalization_rule_name': 'nmt_nfkc',
  'pad_id': 0,
  'eos_id': 1,
  'unk_id': 2,
  'bos_id': -1,
}
LLAMA = {
  'model_type': 'bpe',
  'vocab_size': 420,
  'byte_fallback': True,
  'split_digits': True,
  'normalization_rule_name': 'identity',
  'remove_extra_whitespaces': False,
  'allow_whitespace_only_pieces': True,
}
GEMMA = {
  **LLAMA,
  'add_dummy_prefix': False,
  'user_defined_symbols': ['<mask>', '<new>', '\n\n', '▁▁'],
  'pad_id': 0,
  'eos_id': 1,
  'bos_id': 2,
  'unk_id': 3,
}
TRAINED = {
  't5': ('spiece.model', UNIGRAM),
  't5, few gaps': (
    'spiece.model',
    {**UNIGRAM, 'normalization_rule_name': 'nmt_nfkc_cf'},
  ),
  'llama': ('tokenizer.model', LLAMA),
  'llama, legacy': (
    'tokenizer.model',
    {**LLAMA, 'user_defined_symbols': ['<new>']},
  ),
  'llama, of no class': (
    'tokenizer.model',
    {**LLAMA, 'user_defined_symbols': ['<new>', '\n\n']},
  ),
  'llama, of no class, unigram': (
    'tokenizer.model',
    {
      **UNIGRAM,
      'vocab_size': 400,
      'bos_id': 3,
      'byte_fallback': True,
    },
  ),
  'llava': (
    'tokenizer.model',
    {**LLAMA, 'normalization_rule_name': 'nmt_nfkc'},
  ),
  'paligemma': ('tokenizer.model', GEMMA),
  'siglip': ('spiece.model', {**UNIGRAM, 'vocab_size': 200}),
  'siglip, as written': (
    'spiece.model',
    {**UNIGRAM, 'normalization_rule_name': 'nmt_nfkc_cf'},
  ),
  'siglip2': ('tokenizer.model', GEMMA),
}


@pytest.mark.parametrize('which', older_tokenizers.FOLDERS)
def test_ids_agree(which, tmp_path):
  compare(older_tokenizers.write(tmp_path, which), which)


@pytest.mark.parametrize('which', TRAINED)
def test_ids_of_trained_pieces_agree(which, tmp_path):
  older_tokenizers.write(tmp_path, which.removesuffix(', unigram'))
  file, settings = TRAINED[which]
  trained = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([t for t in older_tokenizers.TEXTS if t.strip()]),
    model_writer=trained,
    minloglevel=2,
    **settings,
  )
  (tmp_path / file).write_bytes(trained.getvalue())
  compare(tmp_path, which)


# Folders of a class for which transformers writes no tokenizer.json.
WITHOUT_JSON = ('siglip', 'siglip, as written')


def compare(folder, which):
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  ours = test_tokenizer_files.build_tokenizer(folder)
  assert ours.get_vocab() == theirs.get_vocab()
  for text in older_tokenizers.TEXTS:
    ids = theirs(text)['input_ids']
    exact = older_tokenizers.is_exact(which, text)
    assert (ours.encode(text).ids == ids) == exact, text
    backend = getattr(theirs, 'backend_tokenizer', None)
    if backend is not None:  # Not of a class that runs SentencePiece itself.
      assert ours.decode(ids) == backend.decode(ids)


@pytest.mark.parametrize(
  'which', [w for w in older_tokenizers.FOLDERS if w not in WITHOUT_JSON]
)
def test_what_transformers_makes_of_a_folder_is_read(which, tmp_path):
  """As the error about a class that mmjax can't build asks for."""
  older_tokenizers.write(tmp_path / 'older', which)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'older')
  theirs.save_pretrained(tmp_path / 'newer')
  names = (tokenizer_files.FILE, tokenizer_settings.FILE)
  content, settings = (
    (tmp_path / 'newer' / name).read_bytes() for name in names
  )
  ours = tokenizer_files.parse(content, tokenizer_files.FILE)
  tokenizer_settings.apply(ours, json.loads(settings))
  for text in older_tokenizers.TEXTS:
    assert ours.encode(text).ids == theirs(text)['input_ids'], text
