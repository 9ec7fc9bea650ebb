"""Accuracies and confusion counted by hand."""

import numpy as np
import pytest

from mmjax.metrics import classification

LOGITS = np.array(
  [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [5.0, 5.0, 0.0]]
)


def test_top_k_counts_the_label_among_the_best():
  labels = np.array([0, 2, 1, -1])
  assert classification.top_k_accuracy(LOGITS, labels, 1) == 1 / 4
  assert classification.top_k_accuracy(LOGITS, labels, 2) == 2 / 4
  assert classification.top_k_accuracy(LOGITS, labels, 3) == 3 / 4


def test_a_tie_counts_against_the_label():
  logits, labels = LOGITS[3:], np.array([0])
  assert classification.top_k_accuracy(logits, labels, 1) == 0
  assert classification.top_k_accuracy(logits, labels, 2) == 1


def test_confident_predictions_are_counted_apart():
  # The likeliest class has 0.8, 0.5, 0.98 and 0.6.
  logits = np.log([[8.0, 2], [5, 5], [2, 98], [6, 4]])
  labels = np.array([0, 1, 0, 0])
  assert classification.measure_confident(logits, labels, 0.7) == {
    'confident': 2 / 4,
    'confident_accuracy': 1 / 2,
  }
  values = classification.measure_confident(1000 * logits, labels, 0.7)
  assert values == {'confident': 3 / 4, 'confident_accuracy': 2 / 3}
  assert classification.measure_confident(logits, labels, 0.99) == {
    'confident': 0.0
  }


def test_confusion_and_what_follows_from_it():
  labels = np.array([0, 0, 0, 1, 2, -1])
  predictions = np.array([0, 0, 1, 1, 1, 0])
  counts = classification.confusion_matrix(predictions, labels, 4)
  expected = [[2, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(counts, expected)
  rates = classification.per_class_accuracy(counts)
  np.testing.assert_allclose(rates, [2 / 3, 1, 0, np.nan])
  balanced = classification.balanced_accuracy(counts)
  assert balanced == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_labels_that_are_no_class_are_refused():
  with pytest.raises(ValueError, match='label 3 is not one of 3 classes'):
    classification.top_k_accuracy(LOGITS, np.array([0, 1, 2, 3]))
  with pytest.raises(ValueError, match=r'k = 4 is not in 1\.\.3'):
    classification.top_k_accuracy(LOGITS, np.array([0, 1, 2, 0]), 4)
  with pytest.raises(ValueError, match='prediction -1'):
    classification.confusion_matrix(np.array([-1]), np.array([0]), 2)
