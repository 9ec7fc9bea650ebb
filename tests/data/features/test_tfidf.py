import math

import numpy as np
import pytest

from mmjax.data import features, preprocess, sources
from mmjax.errors import ConfigError

TEXTS = (['Red cat', 'red dog'], ['red red bird'], None)


def make_source(values=TEXTS):
  rows = [
    {
      'id': f'{i}',
      'fields': {} if value is None else {'captions': value},
      'metadata': {},
    }
    for i, value in enumerate(values)
  ]
  return sources.ListSource(rows)


def fit(source, **settings):
  return features.Tfidf(name='x', field='captions', **settings).fit(source)


def test_weights_are_counts_times_inverse_document_frequencies(tmp_path):
  fitted = fit(make_source())
  # 'red' is in all 3 texts, the others in 1: log(4 / 4) + 1, log(4 / 2) + 1.
  rare = math.log(2) + 1
  assert fitted.terms == ('bird', 'cat', 'dog', 'red')
  np.testing.assert_allclose(fitted.idf, (rare, rare, rare, 1))
  preprocess.Preprocessor({'x': fitted}).save(tmp_path / 'preprocess.json')
  opened = preprocess.Preprocessor.load(tmp_path / 'preprocess.json')
  made = opened.prepare(x=['red Red cat', 'unknown words'])
  expected = np.array([0, rare, 0, 2])
  np.testing.assert_allclose(
    made['x'][0], expected / np.linalg.norm(expected), rtol=1e-6
  )
  assert not made['x'][1].any() and made['x_mask'].all()


def test_settings_choose_texts_and_terms():
  assert fit(make_source(), size=1).terms == ('red',)
  german = [{'en': ['two dogs'], 'de': ['zwei Hunde']}]
  assert fit(make_source(german), language='de').terms == ('hunde', 'zwei')
  pairs = fit(
    make_source([['\u72d7\u72d7\u8dd1']]), analyzer='char', ngrams=(2, 2)
  )
  assert pairs.terms == ('\u72d7\u72d7', '\u72d7\u8dd1')


@pytest.mark.parametrize('values', [[None], [['a', '!']]])
def test_texts_without_terms_are_refused(values):
  with pytest.raises(ConfigError, match=r'data\.features\.x: no training rec'):
    fit(make_source(values))
