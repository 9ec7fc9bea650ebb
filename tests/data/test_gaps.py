"""Texts with gaps become ids."""

import pytest

from mmjax.data import gaps, tokenizers
from mmjax.errors import ConfigError


def test_words_around_a_gap_are_those_of_the_whole_text():
  text = 'a red circle, a blue square'
  bpe = tokenizers.train_bpe([text] * 9, 300)
  whole, mask = bpe.encode(text, 12)
  for word in ('red', 'circle', 'square'):
    gap = text.replace(word, gaps.GAP)
    ids, found_mask, hidden = gaps.encode(bpe, gap, 12)
    assert (found_mask == mask).all() and hidden.sum() == 1
    assert (ids[~hidden] == whole[~hidden]).all()
    assert bpe.decode([*whole[hidden]]) == word


def test_texts_that_cannot_be_filled_are_refused():
  tokenizer = tokenizers.make_byte_tokenizer()
  with pytest.raises(ConfigError, match="'abc' has no gap to fill"):
    gaps.encode(tokenizer, 'abc', 8)
  with pytest.raises(ConfigError, match='has 9 tokens, more than the 8'):
    gaps.encode(tokenizer, 'abcdef[MASK]', 8)


def test_published_mask_tokens_are_found():
  tokenizer = tokenizers.make_byte_tokenizer()
  assert gaps.find_mask_id(tokenizer) is None
  tokenizer._tokenizer.add_special_tokens(['<mask>'])
  assert gaps.find_mask_id(tokenizer) == 260
