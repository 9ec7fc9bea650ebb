"""Retrieval: how near the top the right image, or caption, comes.

An image may have several captions; a caption has one image. From images to
texts, the best placed of an image's captions counts, as is usual on COCO and
Flickr30k (Karpathy & Fei-Fei 2015; Radford et al. 2021).

Ties count against us: what scores the same as the right answer is taken to
come before it. A model that gives everything one score gets rank last, not
first.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Recalls = dict[str, float]

_CHUNK = 512


def recall_at_k(
  similarity: Float[np.ndarray, 'I T'],
  image_of_text: Int[np.ndarray, '_'] | None = None,
  ks: Sequence[int] = (1, 5, 10),
) -> Recalls:
  """Recall at k both ways, from all similarities.

  Args:
    similarity: [I, T] of each image with each text; greater is nearer.
    image_of_text: [T] int, the row of each text's image; by default text i
      belongs to image i.
    ks: how many are retrieved.

  Returns:
    'image_to_text_r1' and so on: the share, in 0..1, of images that have one
    of their captions among the k nearest texts; 'text_to_image_r1': of texts
    whose image is among the k nearest images; and the median ranks
    'image_to_text_median_rank', 'text_to_image_median_rank', from 1. Images
    without a caption count only as wrong answers.

  Raises:
    ValueError: if shapes don't fit, for NaNs, or an image that isn't there.
  """
  similarity = np.asarray(similarity)
  num_images, num_texts = similarity.shape
  image_of_text = _check(image_of_text, num_images, num_texts)
  if np.isnan(similarity).any():
    raise ValueError('similarities hold NaN; there is no order among those')
  text_ranks = _text_ranks(similarity, image_of_text)
  image_ranks = _image_ranks(similarity, image_of_text)
  return _summary(image_ranks, text_ranks, ks)


def recall_of_embeddings(
  images: Float[np.ndarray, 'I D'],
  texts: Float[np.ndarray, 'T D'],
  image_of_text: Int[np.ndarray, '_'] | None = None,
  ks: Sequence[int] = (1, 5, 10),
) -> Recalls:
  """Recall at k of inner products, computed in chunks.

  Args:
    images: [I, D] embeddings, normalised if cosines are meant.
    texts: [T, D] embeddings.
    image_of_text: as in `recall_at_k`.
    ks: how many are retrieved.

  Returns:
    As `recall_at_k`; never holds more than a few hundred rows of similarities.

  Raises:
    ValueError: as `recall_at_k`.
  """
  images, texts = np.asarray(images), np.asarray(texts)
  image_of_text = _check(image_of_text, len(images), len(texts))
  if np.isnan(images).any() or np.isnan(texts).any():
    raise ValueError('embeddings hold NaN; there is no order among those')
  image_ranks, text_ranks = [], []
  # Each way has a pass of its own, in which the right answer's score and its
  # rivals' come from one product, so that rounding can't part equal ones.
  owners = np.unique(image_of_text)
  for start in range(0, len(owners), _CHUNK):
    chunk = owners[start : start + _CHUNK]
    similarity = images[chunk] @ texts.T
    image_ranks += [
      _rank(row, image_of_text == image)
      for row, image in zip(similarity, chunk, strict=True)
    ]
  for start in range(0, len(texts), _CHUNK):
    similarity = images @ texts[start : start + _CHUNK].T
    text_ranks.append(
      _text_ranks(similarity, image_of_text[start : start + _CHUNK])
    )
  return _summary(np.asarray(image_ranks), np.concatenate(text_ranks), ks)


def _text_ranks(
  similarity: np.ndarray, image_of_text: np.ndarray
) -> np.ndarray:
  right = similarity[image_of_text, np.arange(len(image_of_text))]
  return np.sum(similarity >= right, axis=0)


def _image_ranks(
  similarity: np.ndarray, image_of_text: np.ndarray
) -> np.ndarray:
  return np.asarray(
    [
      _rank(similarity[image], image_of_text == image)
      for image in np.unique(image_of_text)
    ]
  )


def _rank(scores: np.ndarray, is_right: np.ndarray) -> int:
  """Rank, from 1, of the best right one; wrong ones of its score go first."""
  return 1 + int(np.sum(scores[~is_right] >= scores[is_right].max()))


def _summary(
  image_ranks: np.ndarray, text_ranks: np.ndarray, ks: Sequence[int]
) -> Recalls:
  named = {'image_to_text': image_ranks, 'text_to_image': text_ranks}
  recalls = {
    f'{name}_r{k}': float(np.mean(ranks <= k))
    for name, ranks in named.items()
    for k in ks
  }
  for name, ranks in named.items():
    recalls[f'{name}_median_rank'] = float(np.median(ranks))
  return recalls


def _check(
  image_of_text: np.ndarray | None, num_images: int, num_texts: int
) -> np.ndarray:
  if image_of_text is None:
    if num_images != num_texts:
      raise ValueError(
        f'{num_images} images and {num_texts} texts are no pairs; say with '
        'image_of_text which image each text belongs to'
      )
    return np.arange(num_texts)
  image_of_text = np.asarray(image_of_text)
  if image_of_text.shape != (num_texts,):
    raise ValueError(
      f'image_of_text has shape {image_of_text.shape}; there are {num_texts} '
      'texts'
    )
  if num_texts == 0:
    raise ValueError('there are no texts to retrieve')
  if image_of_text.min() < 0 or image_of_text.max() >= num_images:
    raise ValueError(
      f'image_of_text goes from {image_of_text.min()} to '
      f'{image_of_text.max()}; there are {num_images} images'
    )
  return image_of_text
