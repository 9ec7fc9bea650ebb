"""Texts are chosen by language, and conversations know what is learnt."""

import numpy as np
import pytest

from mmjax.data import features, tokenizers

TOKENIZER = tokenizers.make_byte_tokenizer()
TEXTS = {'en': ['a dog', 'a pet'], 'de': ['ein Hund']}


def make_record(texts):
  return {'id': 'r', 'fields': {'x': texts}, 'metadata': {}}


@pytest.mark.parametrize(
  ('language', 'first', 'trained'),
  [
    ('en', 'a dog', {'a dog', 'a pet'}),
    ('de', 'ein Hund', {'ein Hund'}),
    ('fr', None, {None}),
    ('', 'a dog', {'a dog', 'a pet', 'ein Hund'}),
  ],
)
def test_a_language_selects_texts(language, first, trained):
  feature = features.Text(name='x', language=language, tokenizer=TOKENIZER)
  record = make_record(TEXTS)
  assert feature.choose(record, None) == first
  rng = np.random.default_rng(0)
  assert {feature.choose(record, rng) for _ in range(40)} == trained
  assert feature.has(record, 'x') == (first is not None)
  # Texts without languages are of any.
  assert feature.choose(make_record(['un']), None) == 'un'


def test_only_the_assistants_texts_are_learnt():
  turns = [
    {'role': 'system', 'content': ['s']},
    {'role': 'user', 'content': [{'field': 'photo'}, 'what?']},
    {'role': 'assistant', 'content': ['a cat']},
    {'role': 'user', 'content': ['sure?']},
    {'role': 'assistant', 'content': ['yes']},
  ]
  feature = features.Turns(name='x', length=97, tokenizer=TOKENIZER)
  example = feature.make_arrays(turns)
  ids, mask = example['x'], example['x_mask']
  assert not ids[~mask].any()
  assert TOKENIZER.decode(ids[: mask.sum()]).startswith('system: s')
  loss_mask = ids[example['x_loss_mask']].tolist()
  end = TOKENIZER.eos_id
  expected = [*TOKENIZER.encode_words('a cat'), end]
  assert loss_mask == [*expected, *TOKENIZER.encode_words('yes'), end]
  assert ids[mask].tolist().count(end) == 5
  whole = [*TOKENIZER.encode_words('user: [photo] what?'), end]
  assert ' '.join(map(str, whole)) in ' '.join(map(str, ids.tolist()))
  # A shorter length cuts the end.
  short = features.Turns(name='x', length=11, tokenizer=TOKENIZER)
  np.testing.assert_array_equal(short.make_arrays(turns)['x'], ids[:11])
