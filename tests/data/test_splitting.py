"""Splits by hash: fractions, stability, errors."""

import collections

import pytest

from mmjax.data import splitting

SPLITS = {'train': 0.7, 'validation': 0.2, 'test': 0.1}


def test_splits_have_their_fractions():
  counts = collections.Counter(
    splitting.assign(f'key {i}', SPLITS) for i in range(5000)
  )
  # Four standard deviations of a binomial of 5000 are below 0.03.
  for split, share in SPLITS.items():
    assert counts[split] / 5000 == pytest.approx(share, abs=0.03)


def test_a_key_keeps_its_split():
  # Golden values: all versions must assign the same splits.
  splits = {i: splitting.assign(f'key {i}', SPLITS) for i in (5, 6, 8, 37)}
  assert splits == {5: 'train', 6: 'validation', 8: 'validation', 37: 'test'}


def test_one_split_can_have_all_records():
  assert splitting.assign('x', {'test': 1.0}) == 'test'
  assert splitting.assign('x', {'train': 0.0, 'test': 1.0}) == 'test'


@pytest.mark.parametrize(
  'text, message',
  [
    ('train', 'should read name:fraction'),
    ('train:0.5,test:0.4', 'the sum 0.9, not 1'),
    ('train:0.5,train:0.5', "name 'train' twice"),
    ('all:1', "a split cannot be named 'all'"),
    ('', 'should read name:fraction'),
  ],
)
def test_wrong_splits_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    splitting.parse_splits(text)
