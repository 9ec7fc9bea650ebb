import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import skimage.color
import skimage.feature

from mmjax.data import features, images, preprocess, sources
from mmjax.data.features import vectors
from mmjax.errors import ConfigError


def encode(image):
  """An image or array as a PNG."""
  file = io.BytesIO()
  PIL.Image.fromarray(np.asarray(image)).save(file, 'PNG')
  return file.getvalue()


def draw(shape, at):
  """A PNG of 48 x 48 pixels with discs or squares at some places."""
  image = PIL.Image.new('RGB', (48, 48), 'white')
  pen = PIL.ImageDraw.Draw(image)
  for x, y in at:
    method = {'disc': pen.ellipse, 'square': pen.rectangle}[shape]
    method((x, y, x + 9, y + 9), fill='black')
  return encode(image)


def make_source(values):
  return sources.ListSource(
    [
      {
        'id': f'{i}',
        'fields': {} if value is None else {'x': value},
        'metadata': {},
      }
      for i, value in enumerate(values)
    ]
  )


def test_an_image_is_the_roots_of_how_often_words_are_nearest(tmp_path):
  values = [draw(shape, [(5, 8), (25, 22)]) for shape in ('disc', 'square')]
  feature = features.Sift(name='x', size=48, words=5)
  fitted = feature.fit(make_source([None, *values]))
  assert np.shape(fitted.centers) == (5, 128)
  assert fitted.fit(make_source([])) is fitted
  preprocess.Preprocessor({'x': fitted}).save(tmp_path / 'preprocess.json')
  opened = preprocess.Preprocessor.load(tmp_path / 'preprocess.json')
  image = images.decode(draw('disc', [(30, 9), (11, 30), (20, 20)]))
  flat = np.full((5, 7, 3), 9, np.uint8)
  made = opened.prepare(x=[image, flat])
  assert not made['x'][1].any() and made['x_mask'].all()

  detector = skimage.feature.SIFT()
  detector.detect_and_extract(skimage.color.rgb2gray(image))
  found = detector.descriptors / detector.descriptors.sum(1, keepdims=True)
  words = np.array(fitted.centers)
  differences = np.sqrt(found)[:, None] - words[None]
  nearest = np.linalg.norm(differences, axis=-1).argmin(axis=1)
  expected = [np.sqrt((nearest == i).sum() / len(nearest)) for i in range(5)]
  assert len(set(nearest)) > 1
  np.testing.assert_allclose(made['x'][0], expected, rtol=1e-6)


def test_training_images_need_keypoints():
  flat = encode(np.full((9, 9, 3), 9, np.uint8))
  with pytest.raises(ConfigError, match='words=3 is more than the 0 keypoints'):
    features.Sift(name='x', size=16, words=3).fit(make_source([flat]))


def test_a_missing_library_of_its_fit_is_named(monkeypatch):
  feature = features.Sift(name='x', size=48, words=1)
  monkeypatch.setattr(
    vectors.importlib,
    'import_module',
    lambda name: (
      (_ for _ in ()).throw(ImportError(name))
      if name == 'sklearn.cluster'
      else __import__(name, fromlist=['x'])
    ),
  )
  with pytest.raises(ConfigError, match=r"'sift' needs .* scikit-learn: pip"):
    feature.fit(make_source([draw('square', [(9, 9)])]))
