"""A config's features become the arrays of batches."""

import json

import numpy as np
import pytest

from mmjax.config import settings
from mmjax.data import audio, extra_fields, feeds, importing, preprocess
from mmjax.errors import ConfigError

SOUND = {'kind': 'sound', 'rate': 800, 'seconds': 0.05}


def make_data(**changed):
  section = settings.default_config().data.to_dict()
  return section | {'image_size': 5, 'text_length': 11} | changed


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Folder of a data set of sounds with an age, a style and a caption."""
  folder = tmp_path_factory.mktemp('sounds')
  rows = []
  for i in range(12):
    samples = np.full(20 + 4 * i, i / 20)
    (folder / f'{i}.wav').write_bytes(audio.encode_wave(samples, 800))
    row = {'audio': f'{i}.wav', 'years': i, 'style': 'ab'[i % 2]}
    rows.append(
      row | {'caption': f'tone {i}', 'split': 'train' if i < 8 else 'test'}
    )
  (folder / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  importing.import_data(
    'jsonl',
    str(folder / 'rows.jsonl'),
    importing.Settings(
      'sounds', fields=extra_fields.parse('said=sound:audio,age=number:years')
    ),
    data_dir=folder / 'data',
    progress=False,
  )
  return folder / 'data'


def open_feed(data_dir, needs, *, batch_size=4, test_split='test', **changed):
  data = make_data(
    name='sounds',
    data_dir=str(data_dir),
    test_split=test_split,
    eval_split='',
    extra_splits=(),
    **changed,
  )
  return feeds.open_feed(data, batch_size=batch_size, seed=0, needs=needs)


def test_a_batch_that_repeats_records_is_noted(data_dir):
  feed = open_feed(data_dir, {'one': ('text',)}, batch_size=9)
  start = (
    'a batch of 9 examples is more than the 8 records of data.train_split='
  )
  (note,) = (note for note in feed.notes if 'repeats some' in note)
  assert note.startswith(start) and 'an image for its own negative' in note
  feed = open_feed(data_dir, {'one': ('text',)}, batch_size=8)
  assert not any('repeats some' in note for note in feed.notes)


def test_without_a_test_split_there_is_none(data_dir):
  assert not open_feed(data_dir, {'one': ('text',)}, test_split='').splits


def test_batches_have_the_arrays_of_all_features(data_dir, tmp_path):
  feed = open_feed(
    data_dir,
    {'one': ('said', 'text'), 'two': ('age', 'style')},
    features={
      'said': SOUND,
      'age': {'kind': 'number'},
      'style': {'kind': 'category', 'field': 'metadata/style'},
    },
  )
  with feed.train.iterate(0) as batches:
    batch = next(batches)
  shapes = {key: value.shape for key, value in batch.items()}
  assert shapes.pop('index') == (4,)
  assert shapes == {
    'said': (4, 40),
    'said_mask': (4, 40),
    'text': (4, 11),
    'text_mask': (4, 11),
    'age': (4,),
    'age_mask': (4,),
    'style': (4,),
    'style_mask': (4,),
  }
  # Learnt from the eight training records.
  assert feed.preprocessor['age'].mean == 3.5
  assert feed.preprocessor['style'].classes == ('a', 'b')
  for name, write in feed.files.items():
    write(tmp_path / name)
  again = preprocess.Preprocessor.load(
    tmp_path / 'preprocess.json', feed.preprocessor.tokenizer
  )
  record = feed.splits['test'][0]
  np.testing.assert_equal(again(record), feed.preprocessor(record))
  assert set(feed.init_batch) == {*shapes, 'index'}


def test_without_texts_there_is_no_tokenizer(data_dir):
  feed = open_feed(
    data_dir,
    {'one': ('said', 'age')},
    features={'said': SOUND, 'age': {'kind': 'number'}},
  )
  assert feed.preprocessor.tokenizer is None
  assert set(feed.files) == {'preprocess.json'}


def test_batches_have_a_share_of_labelled_examples(data_dir):
  style = {
    'kind': 'category',
    'field': 'metadata/style',
    'classes': ('a', 'c'),  # Those of the style b have no class then.
    'labelled_share': 0.25,
  }
  feed = open_feed(data_dir, {'one': ('style',)}, features={'style': style})
  assert feed.sources == ('labelled', 'unlabelled')
  with feed.train.iterate(0) as batches:
    for _ in range(5):
      batch = next(batches)
      assert batch['style_mask'].sum() == 1
      assert ((batch['source_index'] == 0) == batch['style_mask']).all()
  assert feed.init_batch.keys() == batch.keys()
  assert len(feed.train_source) == 8  # What is learnt of records is of all.


@pytest.mark.parametrize(
  ('needs', 'features', 'message'),
  [
    (
      ('said', 'age'),
      {'said': SOUND},
      r"tasks\.one needs 'age', but data\.features makes only said; add it",
    ),
    (
      ('said',),
      {'said': SOUND, 'age': {'kind': 'number'}},
      r'data\.features\.age is read by nothing: model and tasks read said; ',
    ),
    (
      ('heard',),
      {'heard': SOUND},
      r"heard reads the field 'heard', but the data set has .*said, age; name",
    ),
    (
      ('age',),
      {'age': SOUND},
      r"of the kind sound cannot read the field 'age', .* the kind number",
    ),
    (
      ('heard',),
      {'heard': SOUND | {'field': 'said', 'rate': 3}},
      r'data\.features\.heard\.rate=3 is not legal',
    ),
    (('image', 'text'), {}, 'none of .* has an image'),
  ],
)
def test_features_that_cannot_be_made_are_refused(
  data_dir, needs, features, message
):
  with pytest.raises(ConfigError, match=message):
    open_feed(data_dir, {'one': needs}, features=features)


def test_text_fields_of_a_config_are_a_plain_mapping():
  config = settings.default_config()
  config.data.text_fields = {'tags': 3}
  built = feeds.build_features(config.data, {'one': ('text',)})
  assert built['text'].metadata == {'tags': 3}
