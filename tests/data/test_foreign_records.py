"""Features of data sets of other tools become fields of any kind."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from mmjax.data import audio, sources
from mmjax.errors import ConfigError

WAVE = audio.encode_wave(np.linspace(-0.5, 0.5, 40), 8000)


def make_png(level: int) -> bytes:
  file = io.BytesIO()
  PIL.Image.new('RGB', (3, 2), (level, 0, 0)).save(file, 'PNG')
  return file.getvalue()


class _Theirs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.0.0')
  name = 'theirs'
  url_infos = None  # There is nothing to download.

  def _info(self):
    features = tfds.features.FeaturesDict(
      {
        'spoken': tfds.features.Text(),
        'clip': tfds.features.Sequence(tfds.features.Image(shape=(2, 3, 3))),
        'photos': tfds.features.Sequence(tfds.features.Image(shape=(2, 3, 3))),
        'years': np.int64,
        'at': tfds.features.Tensor(shape=(3,), dtype=np.float32),
        'pulse': tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
        'boxes': tfds.features.Sequence({'label': np.int64}),
        'cube': tfds.features.Tensor(shape=(2, 2, 2), dtype=np.float32),
        'album': tfds.features.Sequence(
          {'photo': tfds.features.Image(), 'n': np.int64}
        ),
        'breed': tfds.features.ClassLabel(names=['a_b', 'c']),
        'tags': tfds.features.Sequence(tfds.features.ClassLabel(num_classes=3)),
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    frames = [io.BytesIO(make_png(n)) for n in (0, 100, 200)]
    yield (
      0,
      {
        'spoken': WAVE,
        'clip': frames,
        'photos': [io.BytesIO(make_png(n)) for n in (10, 20)],
        'years': 7,
        'at': [1, 2, 3],
        'pulse': np.arange(6, dtype=np.float32).reshape(3, 2),
        'boxes': [{'label': 1}, {'label': 2}],
        'cube': np.zeros((2, 2, 2), np.float32),
        'album': [{'photo': io.BytesIO(make_png(30)), 'n': 1}],
        'breed': 0,
        'tags': [2, 0],
      },
    )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  _Theirs(data_dir=folder, file_format='array_record').download_and_prepare()
  return folder


def read(data_dir, **fields):
  source = sources.open_source(
    'theirs', 'train', data_dir=data_dir, fields=fields
  )
  return source, source[0]['fields']


def test_the_kind_is_that_of_the_feature(data_dir):
  source, fields = read(
    data_dir,
    age='years',
    place='at',
    heart='pulse',
    kind='breed',
    tags='tags',
    labels='vector:boxes/label',
  )
  assert source.kinds == {
    'age': 'number',
    'place': 'vector',
    'heart': 'series',
    'kind': 'category',
    'tags': 'category',
    'labels': 'vector',
  }
  assert fields['age'] == 7.0 and type(fields['age']) is float
  np.testing.assert_array_equal(fields['place'], [1, 2, 3])
  np.testing.assert_array_equal(fields['heart'], [[0, 1], [2, 3], [4, 5]])
  np.testing.assert_array_equal(fields['labels'], [1, 2])
  assert fields['kind'] == ['a b'] and fields['tags'] == ['2', '0']
  assert source.classes == {'kind': ['a b', 'c'], 'tags': ['0', '1', '2']}
  assert read(data_dir, age='years')[0].classes == {
    'metadata/breed': ['a b', 'c']
  }
  (texts,) = source.iterate_small()
  assert set(texts['fields']) == {'age', 'kind', 'tags'}


def test_images_sounds_and_videos_are_files(data_dir):
  source, fields = read(
    data_dir,
    said='sound:spoken',
    seen='video:clip',
    photos='photos',
    album='album/photo',
  )
  assert source.kinds == {
    'said': 'sound',
    'seen': 'video',
    'photos': 'images',
    'album': 'images',
  }
  assert fields['said'] == WAVE
  assert fields['photos'] == [make_png(10), make_png(20)]
  assert fields['album'] == [make_png(30)]
  frames = [PIL.Image.open(io.BytesIO(data)) for data in fields['seen']]
  assert [frame.getpixel((0, 0))[0] for frame in frames] == [0, 100, 200]


def test_what_needs_tensorflow_is_refused(data_dir, monkeypatch):
  def fail(folder):
    raise ModuleNotFoundError('No module', name='tensorflow')

  monkeypatch.setattr(tfds, 'builder_from_directory', fail)
  with pytest.raises(ConfigError, match='with TensorFlow alone'):
    read(data_dir, age='years')


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'x': 'cube'}, "kind of the feature 'cube' is not known; write it before"),
    ({'x': 'turns:years'}, "'x' of the kind turns cannot be read from"),
    ({'x': 'numbr:years'}, "kind of field 'x'.*'numbr'"),
    ({'x': 'sound:at'}, "'x' is stored as an array, not as a file"),
    ({'x': 'number:at'}, "'x' of the kind number should be a finite number"),
    ({'x': 'number:breed'}, "number should be a finite number, not 'a b'"),
    ({'x': 'points:at'}, "'x' of the kind points should have 2 axes"),
  ],
)
def test_features_of_another_kind_are_refused(data_dir, fields, message):
  with pytest.raises(ConfigError, match=message):
    read(data_dir, **fields)
