"""Ids of folders without a tokenizer.json are transformers'."""

import pytest
import transformers

from tests.pretrained import older_tokenizers, test_tokenizer_files


@pytest.mark.parametrize('which', older_tokenizers.FOLDERS)
def test_ids_agree(which, tmp_path):
  older_tokenizers.write(tmp_path, which)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  ours = test_tokenizer_files.built(tmp_path)
  assert ours.get_vocab() == theirs.get_vocab()
  for text in older_tokenizers.TEXTS:
    ids = theirs(text)['input_ids']
    assert ours.encode(text).ids == ids, text
    assert ours.decode(ids) == theirs.backend_tokenizer.decode(ids)
