"""Batches have the fraction of labelled examples that a category asks for."""

import pytest

from mmjax.data import features, label_shares, mixtures, sources
from mmjax.errors import ConfigError


def make_source(*names):
  return sources.ListSource(
    {'id': str(i), 'fields': {'kind': [n] if n else None}, 'metadata': {}}
    for i, n in enumerate(names)
  )


def make_kind(share=0.1, **settings):
  settings = {'classes': ('a', 'b')} | settings
  kind = features.Category(name='kind', labelled_share=share, **settings)
  return {'kind': kind}


def list_ids(part):
  return [record['id'] for record in part]


def test_records_without_a_class_that_is_learnt_are_unlabelled():
  source = make_source('a', None, 'b', 'unknown', 'a')
  divided = label_shares.divide(source, make_kind())
  assert list_ids(divided.parts['labelled']) == ['0', '2', '4']
  assert list_ids(divided.parts['unlabelled']) == ['1', '3']
  assert [float(share) for share in divided.list_shares()] == [0.1, 0.9]
  assert label_shares.divide(source, make_kind(None)) is source


def test_hidden_classes_are_unlabelled():
  source = make_source(*['a', 'b'] * 50)
  fitted = make_kind(labelled=0.2)
  divided = label_shares.divide(source, fitted)
  labelled = list_ids(divided.parts['labelled'])
  assert 0 < len(labelled) < 50
  assert labelled == list_ids(filter(fitted['kind'].is_labelled, source))


@pytest.mark.parametrize(
  ('source', 'fitted', 'message'),
  [
    (
      make_source('a', 'b'),
      make_kind(),
      r'kind\.labelled_share=0\.1 needs unlabelled training records, and there '
      'are none; leave it out',
    ),
    (make_source(None), make_kind(), 'needs labelled training records'),
    (
      make_source('a', None),
      make_kind() | {'other': make_kind(0.3)['kind']},
      r'kind\.labelled_share=0\.1 and that of .* are both set',
    ),
    (
      mixtures.Mixture({'few': make_source('a', None)}, {'few': 1.0}),
      make_kind(),
      r'divides one data set, but data\.mixture has several',
    ),
  ],
)
def test_data_that_cannot_be_divided_are_refused(source, fitted, message):
  with pytest.raises(ConfigError, match=message):
    label_shares.divide(source, fitted)


@pytest.mark.parametrize('share', [0, 1, -0.5])
def test_a_share_of_nothing_or_all_is_refused(share):
  with pytest.raises(ConfigError, match=r'labelled_share=.* more than 0 and'):
    make_kind(share)
