"""Recall against ranks counted by hand."""

import numpy as np
import pytest

from mmjax.metrics import retrieval

# Images 0, 1, 2; texts 0 and 1 belong to image 0, text 2 to 1, 3 and 4 to 2.
OWNERS = np.array([0, 0, 1, 2, 2])
SIMILARITY = np.array(
  [
    [0.9, 0.1, 0.8, 0.3, 0.2],  # best own 0.9: rank 1
    [0.5, 0.6, 0.4, 0.7, 0.1],  # own 0.4: behind 0.5, 0.6, 0.7: rank 4
    [0.2, 0.9, 0.1, 0.6, 0.5],  # best own 0.6, behind 0.9: rank 2
  ]
)
# Columns: 0 is first of its column; 1 last; 2 second; 3 second; 4 first.


def test_recalls_are_those_counted_by_hand():
  recalls = retrieval.recall_at_k(SIMILARITY, OWNERS, ks=(1, 2, 3))
  expected = {
    'image_to_text_r1': 1 / 3,
    'image_to_text_r2': 2 / 3,
    'image_to_text_r3': 2 / 3,
    'text_to_image_r1': 2 / 5,
    'text_to_image_r2': 4 / 5,
    'text_to_image_r3': 1.0,
    'image_to_text_median_rank': 2.0,
    'text_to_image_median_rank': 2.0,
  }
  assert recalls == pytest.approx(expected)


def test_one_score_for_all_is_no_success():
  recalls = retrieval.recall_at_k(np.zeros((3, 5)), OWNERS, ks=(1,))
  assert recalls['image_to_text_r1'] == 0
  assert recalls['text_to_image_r1'] == 0
  assert recalls['text_to_image_median_rank'] == 3


def test_own_captions_are_no_rivals_of_each_other():
  recalls = retrieval.recall_at_k(np.ones((1, 3)), np.zeros(3, int), ks=(1,))
  assert recalls['image_to_text_r1'] == 1


def test_pairs_are_the_default():
  recalls = retrieval.recall_at_k(np.eye(7), ks=(1,))
  assert recalls['image_to_text_r1'] == recalls['text_to_image_r1'] == 1


def test_embeddings_in_chunks_give_the_same(monkeypatch):
  monkeypatch.setattr(retrieval, '_CHUNK', 3)
  rng = np.random.default_rng(0)
  # Whole numbers, so that rounding can't part the two computations.
  images = rng.integers(-3, 4, (7, 5)).astype(np.float32)
  texts = rng.integers(-3, 4, (11, 5)).astype(np.float32)
  owners = rng.integers(0, 7, 11)
  chunked = retrieval.recall_of_embeddings(images, texts, owners)
  assert chunked == retrieval.recall_at_k(images @ texts.T, owners)


def test_images_without_captions_are_only_wrong_answers():
  similarity = np.array([[0.1], [0.9]])
  recalls = retrieval.recall_at_k(similarity, np.array([0]), ks=(1, 2))
  assert recalls['image_to_text_r1'] == 1
  assert recalls['text_to_image_r1'] == 0
  assert recalls['text_to_image_r2'] == 1


@pytest.mark.parametrize(
  ('similarity', 'owners', 'message'),
  [
    (np.zeros((2, 3)), None, '2 images and 3 texts'),
    (np.zeros((2, 3)), np.array([0, 1]), 'shape'),
    (np.zeros((2, 3)), np.array([0, 1, 2]), 'goes from 0 to 2'),
    (np.full((2, 2), np.nan), None, 'NaN'),
  ],
)
def test_what_makes_no_sense_is_refused(similarity, owners, message):
  with pytest.raises(ValueError, match=message):
    retrieval.recall_at_k(similarity, owners)
