"""VQA accuracy and its normalisation."""

import pytest

from mmjax.metrics import answers


@pytest.mark.parametrize(
  ('answer', 'expected'),
  [
    ('Yes', 'yes'),
    (' a dog\n', 'dog'),
    ('the two cats', '2 cats'),
    ('none', '0'),
    ('red, white', 'red white'),
    ('black/white', 'black white'),
    ('1,000', '1000'),
    ('3.5', '3.5'),
    ('yes.', 'yes'),
    ('dont', "don't"),
    ('couldntve', 'couldntve'),
    ("couldn'tve", "couldn't've"),
    ('t-shirt', 't shirt'),
    ('what?', 'what'),
    ('', ''),
  ],
)
def test_normalise(answer, expected):
  assert answers.normalise(answer) == expected


@pytest.mark.parametrize(
  ('agreeing', 'expected'),
  # Of ten, with k agreeing: k of them see k - 1 others, 10 - k see k.
  [
    (0, 0.0),
    (1, (1 * 0 + 9 * 1 / 3) / 10),
    (2, (2 * 1 / 3 + 8 * 2 / 3) / 10),
    (3, (3 * 2 / 3 + 7 * 1) / 10),
    (4, 1.0),
    (10, 1.0),
  ],
)
def test_vqa_score_leaves_one_person_out(agreeing, expected):
  references = ['Red'] * agreeing + ['blue'] * (10 - agreeing)
  assert answers.vqa_score('red', references) == pytest.approx(expected)


def test_few_references_need_one_that_agrees():
  assert answers.vqa_score('2', ['two']) == 1
  assert answers.vqa_score('2', ['one', 'two', 'three']) == 1
  assert answers.vqa_score('2', ['three']) == 0


def test_breakdown_by_type():
  scores = answers.vqa_accuracy(
    ['red', 'two', 'yes', 'cube'],
    [['red'], ['3'], ['yes'], ['ball']],
    ['color', 'count', '', 'count'],
  )
  assert scores == {
    'accuracy': 0.5,
    'accuracy/color': 1.0,
    'accuracy/count': 0.0,
  }


def test_what_makes_no_sense_is_refused():
  with pytest.raises(ValueError, match='no answers'):
    answers.vqa_accuracy([], [])
  with pytest.raises(ValueError, match='2 predictions, 1 lists'):
    answers.vqa_accuracy(['a', 'b'], [['a']])
  with pytest.raises(ValueError, match='list of one or more answers'):
    answers.vqa_score('a', 'a')
