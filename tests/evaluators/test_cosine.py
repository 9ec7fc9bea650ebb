"""Baselines by hand: edges of two directions, texts of a few words."""

import io

import numpy as np
import PIL.Image
import pytest

from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.evaluators import cosine

HOG = {'kind': 'hog', 'field': 'image', 'size': 16}
TFIDF = {'kind': 'tfidf', 'field': 'captions'}


def make_edge(direction, contrast):
  image = np.zeros((16, 16), np.uint8)
  image[:, 8:] = contrast
  file = io.BytesIO()
  PIL.Image.fromarray(image.T if direction == 'h' else image).save(file, 'PNG')
  return file.getvalue()


def make_source(*fields, **metadata):
  rows = [
    {
      'id': f'{i}',
      'fields': values,
      'metadata': {name: column[i] for name, column in metadata.items()},
    }
    for i, values in enumerate(fields)
  ]
  return sources.ListSource(rows)


def make_edges(directions, contrast):
  images = [{'image': make_edge(d, contrast)} for d in directions]
  return make_source(*images, {'captions': ['?']}, way=[*directions, 'v'])


TEXTS = make_source(
  *(
    {'captions': texts}
    for texts in (
      ['red cat', 'cat'],
      ['dog', 'big dog'],
      ['bird', 'red cat'],
      ['fish'],
    )
  )
)


def test_classes_are_those_of_the_nearest_training_record():
  train, test = make_edges('vhv', 200), make_edges('hhv', 90)
  # The last record of each has no image.
  assert cosine.measure(train, test, HOG, target='metadata/way') == {
    'accuracy': 1,
    'majority_accuracy': pytest.approx(1 / 3),
    'train_records': 3,
    'test_records': 3,
  }


def test_texts_find_those_of_their_record():
  values = cosine.measure(TEXTS, TEXTS, TFIDF)
  # 'red cat' of the third record is nearer to the first one's text than 'cat'
  # is; 'bird' and 'red cat' have no word in common.
  assert values == {
    'first_to_others_r1': pytest.approx(1 / 3),
    'first_to_others_r5': 1,
    'first_to_others_r10': 1,
    'others_to_first_r1': pytest.approx(2 / 3),
    'others_to_first_r5': 1,
    'others_to_first_r10': 1,
    'chance_r1': pytest.approx(1 / 3),
    'records': 3,
  }
  assert cosine.measure(TEXTS, TEXTS, TFIDF, num_examples=2)['records'] == 2


@pytest.mark.parametrize(
  ('settings', 'target', 'message'),
  [
    ({'kind': 'text', 'field': 'captions'}, '', 'kind text has no unit vect'),
    (HOG, '', 'the kind hog, and nothing to find with it; name the field'),
    (TFIDF, 'metadata/way', 'no class in .*which needs at least two'),
    ({**TFIDF, 'field': 'image'}, '', "field 'image', which is of the kind"),
  ],
)
def test_what_cannot_be_compared_is_refused(settings, target, message):
  with pytest.raises(ConfigError, match=message):
    cosine.measure(TEXTS, TEXTS, settings, target=target)


def test_records_with_one_text_are_refused():
  source = make_source({'captions': ['red cat']}, {})
  with pytest.raises(ConfigError, match="two texts in the field 'captions'"):
    cosine.measure(source, source, TFIDF)
