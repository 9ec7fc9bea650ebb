"""Random records are reproducible and have the sizes of the config."""

import pickle

import numpy as np
import pytest

from mmjax.config import settings
from mmjax.data import feeds, images, synthetic


def make_data(**changed):
  section = settings.default_config().data.to_dict()
  sizes = {
    'name': 'synthetic/101',
    'image_size': (5, 7),
    'text_length': 11,
    'question_length': 6,
    'answer_length': 3,
  }
  return section | sizes | changed


def open_feed(**changed):
  return feeds.open_feed(
    make_data(**changed),
    batch_size=3,
    seed=0,
    needs={'all': ('image', 'text', 'question', 'answer', 'label')},
  )


def test_a_record_depends_only_on_split_and_number():
  source = synthetic.SyntheticSource('train', image_size=5)
  again = pickle.loads(pickle.dumps(source))
  assert source[7] == again[7]
  assert source[7] != source[8]
  assert source[7]['fields']['image'] != source[8]['fields']['image']
  assert source[7] != synthetic.SyntheticSource('test', image_size=5)[7]
  fields = dict(source[7]['fields'])
  assert images.decode(fields.pop('image')).shape == (5, 5, 3)
  assert source.read_small(7) == source[7] | {'fields': fields}


def test_batches_have_the_configs_sizes():
  feed = open_feed()
  with feed.train.iterate(5) as batches:
    batch = next(batches)
  with open_feed().train.iterate(5) as batches:
    for name, value in next(batches).items():
      np.testing.assert_array_equal(value, batch[name])
  shapes = {name: value.shape for name, value in batch.items()}
  assert shapes['image'] == (3, 5, 7, 3)
  assert shapes['text'] == shapes['text_mask'] == (3, 11)
  assert shapes['question'] == (3, 6)
  assert shapes['answer'] == (3, 3)
  assert batch['text'].max() < feed.preprocessor.tokenizer.vocab_size == 101
  assert np.all(batch['label'] >= 0)
  # Texts fill half of their length or more.
  assert np.all(batch['text_mask'].sum(1) >= 2 + 5)
  assert set(feed.splits) == {'val', 'test'}


def test_decode_inverts_encode():
  feed = open_feed()
  record = feed.splits['val'][3]
  example = feed.preprocessor(record)
  tokenizer = feed.preprocessor.tokenizer
  assert tokenizer.decode(example['text']) == record['fields']['captions'][0]
  assert example['text'][0] == tokenizer.bos_id


def test_the_vocabulary_has_the_configs_size():
  assert synthetic.parse_vocab_size('synthetic') == synthetic.VOCAB_SIZE
  assert synthetic.make_tokenizer(300).vocab_size == 300


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'name': 'synthetic/5'}, 'a whole number from 68'),
    ({'name': 'synthetic/many'}, "data.name='synthetic/many'"),
    ({'train_split': 'all'}, "has no split 'all'; it has train, validation"),
    ({'fields': {'image': 'x'}}, 'leave it out'),
    ({'where': {'style': 'x'}}, 'no record has a field style'),
  ],
)
def test_impossible_settings_are_refused(changed, message):
  with pytest.raises(ValueError, match=message):
    open_feed(**changed)
