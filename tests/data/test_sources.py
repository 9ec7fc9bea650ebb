"""Prepared data sets are opened by name, and errors name the legal values."""

import io
import pickle

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from mmjax.data import prepare, records, sources, tfds_source
from mmjax.errors import ConfigError


def make_png(seed: int) -> bytes:
  buffer = io.BytesIO()
  color = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
  PIL.Image.new('RGB', (3, 2), color).save(buffer, 'PNG')
  return buffer.getvalue()


def make_record(i: int) -> dict:
  questions = [
    {'question': f'q{k}?', 'answers': ['yes', str(k)], 'type': 'kind'}
    for k in range(i % 3)
  ]
  return {
    'id': f'r{i}',
    'fields': {
      'image': make_png(i),
      'captions': [f'caption {i}', 'another'],
      **({'questions': questions} if questions else {}),
    },
    'metadata': {'style': 'abc'[i % 3], 'tags': ['t', str(i % 2)]},
  }


class _Ours(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.2.0')
  name = 'ours'
  url_infos = None  # There is nothing to download.

  def _info(self):
    features = records.Schema().make_tfds_features()
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(range(10)),
      'test': self._generate_examples(range(10, 13)),
    }

  def _generate_examples(self, numbers):
    for i in numbers:
      yield i, records.Schema().encode(make_record(i))


class _Theirs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version('3.0.0')
  name = 'theirs'
  url_infos = None

  def _info(self):
    features = tfds.features.FeaturesDict(
      {
        'picture': tfds.features.Image(shape=(None, None, 3)),
        'label': tfds.features.ClassLabel(names=['cat', 'hot_dog']),
        'notes': tfds.features.Sequence({'text': tfds.features.Text()}),
        'ask': tfds.features.Text(),
        'replies': tfds.features.Sequence(tfds.features.Text()),
        'size': np.int64,
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i in range(3):
      yield (
        i,
        {
          'picture': io.BytesIO(make_png(i)),
          'label': i % 2,
          'notes': [{'text': 'one'}, {'text': 'two'}],
          'ask': 'how many?',
          'replies': ['2', 'two'],
          'size': 10 * i,
        },
      )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  for builder in (_Ours, _Theirs):
    data_builder = builder(data_dir=folder, file_format='array_record')
    data_builder.download_and_prepare()
  records.Schema().save(folder / 'ours' / '1.2.0')
  return folder


def list_ids(source) -> set[str]:
  return {row['id'] for row in source}


def test_records_come_back_as_written(data_dir):
  source = sources.open_source('ours', 'train', data_dir=data_dir)
  rows = {row['id']: row for row in source}
  assert rows == {f'r{i}': make_record(i) for i in range(10)}
  assert source.folder == data_dir / 'ours' / '1.2.0'
  assert source[-1] == source[9]
  with pytest.raises(IndexError, match='record 10 of a source of 10'):
    source[10]


def test_texts_are_records_without_images(data_dir):
  source = sources.open_source('ours', 'train', data_dir=data_dir)
  for row, texts in zip(source, source.iterate_small(), strict=True):
    small = {k: v for k, v in row['fields'].items() if k != 'image'}
    assert texts == row | {'fields': small}


def test_splits_add_up_and_divide(data_dir):
  def open_split(split):
    return sources.open_source('ours', split, data_dir=data_dir)

  assert list_ids(open_split('train+test')) == {f'r{i}' for i in range(13)}
  assert len(open_split('train[:20%]')) == 2
  halves = list_ids(open_split('train[:5]')), list_ids(open_split('train[5:]'))
  assert halves[0] | halves[1] == {f'r{i}' for i in range(10)}
  assert not halves[0] & halves[1]
  assert len(open_split('train[:3]+test[1:]')) == 5
  for split in ('val', 'train['):
    with pytest.raises(ValueError, match=r'it has train \(10\), test \(3\)'):
      open_split(split)


def test_version_in_the_name(data_dir):
  source = sources.open_source('ours:1.2.0', 'test', data_dir=data_dir)
  assert len(source) == 3
  with pytest.raises(ConfigError, match=r"'ours:1\.0\.0' is not prepared"):
    sources.open_source('ours:1.0.0', 'test', data_dir=data_dir)
  (data_dir / 'photos').mkdir()
  for name, message in {
    f'{data_dir}/photos': f'--input={data_dir}/photos --name=NAME --data_dir=',
    'shapes/small': 'shapes/small --data_dir=',
    'shapes/smal': "did you mean 'shapes/small'",
  }.items():
    with pytest.raises(ConfigError, match=message) as error:
      sources.open_source(name, 'test', data_dir=data_dir)
    assert ('did you mean' in str(error.value)) == (name == 'shapes/smal')
  with pytest.raises(ConfigError, match='random, for training and plans'):
    sources.open_source('synthetic/2000', 'test', data_dir=data_dir)


def test_sources_survive_pickling(data_dir):
  where = {'style': 'b'}
  source = sources.open_source('ours', 'train', data_dir=data_dir, where=where)
  data = pickle.dumps(sources.view_questions(source))
  assert len(data) < 2000
  assert list(pickle.loads(data)) == list(sources.view_questions(source))


@pytest.mark.parametrize(
  ('where', 'kept'),
  [
    ({'style': 'a'}, {0, 3, 6, 9}),
    ({'style': ('a', 'b')}, {0, 1, 3, 4, 6, 7, 9}),
    ({'style': ['a', 'b'], 'tags': '1'}, {1, 3, 7, 9}),
    ({'id': ('r2', 'r5')}, {2, 5}),
  ],
)
def test_where(data_dir, where, kept):
  source = sources.open_source('ours', 'train', data_dir=data_dir, where=where)
  assert list_ids(source) == {f'r{i}' for i in kept}
  assert all(row['fields']['image'] for row in source)


def test_where_names_legal_fields_and_values(data_dir):
  def open_where(where):
    sources.open_source('ours', 'train', data_dir=data_dir, where=where)

  with pytest.raises(
    ValueError, match=r'field stile .* there are id, style, t'
  ):
    open_where({'stile': 'a'})
  with pytest.raises(
    ValueError, match=r"no record matches .* has 'a', 'b', 'c'"
  ):
    open_where({'style': 'd'})


def test_view_questions_gives_one_question_each(data_dir):
  source = sources.open_source('ours', 'train', data_dir=data_dir)
  view = sources.view_questions(source)
  assert len(view) == sum(i % 3 for i in range(10))
  rows = list(view)
  assert len(list_ids(view)) == len(view)
  expected = {f'r{i}#{k}' for i in range(10) for k in range(i % 3)}
  assert list_ids(view) == expected
  for row in rows:
    assert [q['question'] for q in row['fields']['questions']] == [
      f'q{row["id"][-1]}?'
    ]
    assert row['fields']['image']
  with pytest.raises(ValueError, match='none of 1 records has a question'):
    sources.view_questions(sources.ListSource([make_record(0)]))


def test_questions_without_an_answer_are_not_evaluated():
  record = make_record(2)
  record['fields']['questions'][0]['answers'] = []
  view = sources.view_questions(sources.ListSource([record]))
  assert list_ids(view) == {f'{record["id"]}#1'}


def test_foreign_data_sets_are_mapped(data_dir):
  fields = {
    'image': 'picture',
    'captions': 'notes/text',
    'question': 'ask',
    'answers': 'replies',
  }
  source = sources.open_source(
    'theirs', 'train', data_dir=data_dir, fields=fields
  )
  rows = sorted(source, key=lambda row: row['metadata']['size'])
  assert [row['metadata'] for row in rows] == [
    {'label': 'cat', 'size': 0},
    {'label': 'hot dog', 'size': 10},
    {'label': 'cat', 'size': 20},
  ]
  assert rows[1]['fields']['image'] == make_png(1)
  assert rows[1]['fields']['captions'] == ['one', 'two']
  assert rows[1]['fields']['questions'] == [
    {'question': 'how many?', 'answers': ['2', 'two'], 'type': ''}
  ]
  assert list_ids(source) == {'train/0', 'train/1', 'train/2'}
  again = pickle.loads(pickle.dumps(source))
  assert list(again) == list(source)
  assert not any('image' in row['fields'] for row in source.iterate_small())
  only = sources.select(source, {'label': 'hot dog'})
  assert [row['metadata']['size'] for row in only] == [10]


def test_class_labels_become_captions(data_dir):
  fields = {'image': 'picture', 'captions': 'label'}
  source = sources.open_source(
    'theirs', 'train', data_dir=data_dir, fields=fields
  )
  assert sorted(row['fields']['captions'] for row in source) == [
    ['cat'],
    ['cat'],
    ['hot dog'],
  ]


@pytest.mark.parametrize(
  ('name', 'fields', 'message'),
  [
    ('theirs', None, "wasn't written by mmjax; .*picture"),
    ('theirs', {'old': 'numbr:size'}, "the kind of field 'old'.*'numbr'"),
    ('theirs', {'a b': 'size'}, "cannot have the name 'a b'"),
    (
      'theirs',
      {'image': 'img'},
      "no feature 'img' for image; .* has .*notes/text",
    ),
    ('ours', {'image': 'image'}, 'needs no `fields`'),
  ],
)
def test_wrong_fields_are_refused(data_dir, name, fields, message):
  with pytest.raises(ValueError, match=message):
    sources.open_source(name, 'train', data_dir=data_dir, fields=fields)


def test_built_in_data_sets_can_be_prepared():
  assert tfds_source.BUILT_IN == prepare.NAMES


@pytest.mark.parametrize(
  ('name', 'command'),
  [
    ('shapes', 'mmjax data prepare shapes --data_dir='),
    ('shapes/small', 'mmjax data prepare shapes/small --data_dir='),
    ('shapes/small:1.0.0', 'mmjax data prepare shapes/small --data_dir='),
    ('mnist', r"tfds.builder\('mnist', data_dir='.*'array_record'"),
    ('my_own', 'mmjax data import .* --name=my_own --data_dir='),
  ],
)
def test_unprepared_sets_come_with_a_command(tmp_path, name, command):
  with pytest.raises(ConfigError, match=command) as info:
    sources.open_source(name, 'train', data_dir=tmp_path)
  assert str(tmp_path) in str(info.value)
