"""Word error rate."""

import functools

import numpy as np
import pytest

from mmjax.metrics import transcripts


@pytest.mark.parametrize(
  'transcript, reference, errors',
  [
    ('Hello, World!', 'hello world', 0),
    ('', 'one two three', 3),
    ('one two three', '', 3),
    ('a b c', 'b c d', 2),
    ('a x c', 'a b c', 1),
    ('a a a b', 'a b', 2),
    ("don't press 5", 'Do not press five', 3),
  ],
)
def test_errors_by_hand(transcript, reference, errors):
  assert transcripts.word_errors(transcript, reference) == errors


def test_errors_equal_the_recursion():
  @functools.cache
  def distance(a, b):
    if not a or not b:
      return len(a) + len(b)
    return min(
      distance(a[1:], b) + 1,
      distance(a, b[1:]) + 1,
      distance(a[1:], b[1:]) + (a[0] != b[0]),
    )

  rng = np.random.default_rng(0)
  for _ in range(30):
    a, b = (
      tuple('abcd'[i] for i in rng.integers(0, 4, rng.integers(0, 9)))
      for _ in range(2)
    )
    assert transcripts.word_errors(' '.join(a), ' '.join(b)) == distance(a, b)


def test_long_texts_count_more():
  rate = transcripts.word_error_rate(['a b c d', 'x'], ['a b c d', 'y'])
  assert rate == 1 / 5
  assert transcripts.word_error_rate(['a b c'], ['d']) == 3


def test_impossible_lists_are_refused():
  with pytest.raises(ValueError, match='1 transcripts, but 2 references'):
    transcripts.word_error_rate(['a'], ['a', 'b'])
  with pytest.raises(ValueError, match='no reference has a word'):
    transcripts.word_error_rate(['a'], ['...'])
