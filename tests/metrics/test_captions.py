"""Caption metrics against values worked out by hand."""

import math

import pytest

from mmjax.metrics import captions


def test_exact_match_ignores_case_and_punctuation():
  given = ['A red cube.', 'a blue ball', 'two']
  references = [['x', 'a  red cube'], ['a blue ball beside'], ['Two!']]
  assert captions.exact_match(given, references) == pytest.approx(2 / 3)


def test_bleu_clips_counts():
  # Papineni et al., example 2: 'the' counts twice at most, of 7.
  references = [['the cat is on the mat', 'there is a cat on the mat']]
  score = captions.bleu(['the the the the the the the'], references, 1)
  assert score == pytest.approx(2 / 7)


def test_bleu_of_a_short_caption_is_penalised():
  # 5 of 5, 4 of 4, 3 of 3, 2 of 2 n-grams match; r = 6, c = 5.
  score = captions.bleu(['a b c d e'], [['a b c d e f']])
  assert score == pytest.approx(math.exp(1 - 6 / 5))


def test_bleu_pools_counts_over_the_corpus():
  # Unigrams 5 + 3 of 5 + 5, 2-grams 4 + 2 of 4 + 4; lengths are equal.
  given = ['a b c d e', 'a b c x y']
  references = [['a b c d e'], ['a b c d e']]
  expected = math.sqrt(8 / 10 * 6 / 8)
  assert captions.bleu(given, references, 2) == pytest.approx(expected)


def test_bleu_takes_the_shorter_of_two_equally_near_references():
  # Lengths 4 and 6 are equally near 5: r = 4, no penalty.
  score = captions.bleu(['a b c d e'], [['a b c d e f', 'a b c d']], 1)
  assert score == pytest.approx(1)


def test_bleu_without_a_match_is_zero():
  assert captions.bleu(['a b c'], [['a b c']]) == 0  # has no 4-gram


def test_rouge_l_of_lin_2004():
  # Section 3.1: police killed the gunman / police kill the gunman / the
  # gunman kill police: subsequences 3 of 4 and 2 of 4.
  reference = [['police killed the gunman']]
  good = captions.rouge_l(['police kill the gunman'], reference)
  bad = captions.rouge_l(['the gunman kill police'], reference)
  assert good == pytest.approx(3 / 4)
  assert bad == pytest.approx(2 / 4)


def test_rouge_l_weighs_recall_more():
  # Common 2 of 2 words given and of 4: P = 1, R = 1/2, beta^2 = 1.44.
  score = captions.rouge_l(['a c'], [['a b c d']])
  assert score == pytest.approx((1 + 1.44) * 0.5 / (0.5 + 1.44))


def test_cider_of_perfect_captions():
  # All 1- to 4-grams agree, so each cosine is 1.
  given = ['a b c d', 'e f g h']
  assert captions.cider_d(given, [[c] for c in given]) == pytest.approx(10)


def test_cider_ignores_what_all_images_share():
  # 'a' is in both images' references: weight log(2 / 2) = 0. Left are b
  # against b and nothing in the longer n-grams: (1 + 0 + 0 + 0) / 4 * 10.
  given, references = ['b', 'x'], [['a b'], ['a c']]
  # One bigram longer: exp(-1 / 72).
  expected = (10 / 4 * math.exp(-1 / 72) + 0) / 2
  assert captions.cider_d(given, references) == pytest.approx(expected)


def test_cider_clips_repetitions():
  # Counts 2 against 1: min(2w, w) * w / (2w * w) = 1/2 for unigrams; the
  # caption's bigram 'b b' has no partner. Lengths in bigrams: 1 and 0.
  expected = (10 * 0.5 / 4 * math.exp(-1 / 72)) / 2
  score = captions.cider_d(['b b', 'x'], [['b'], ['c']])
  assert score == pytest.approx(expected)


def test_what_makes_no_sense_is_refused():
  with pytest.raises(ValueError, match='no captions'):
    captions.bleu([], [])
  with pytest.raises(ValueError, match='1 captions and 2 lists'):
    captions.rouge_l(['a'], [['a'], ['b']])
  with pytest.raises(ValueError, match='caption 0 needs a list'):
    captions.cider_d(['a'], ['a'])
