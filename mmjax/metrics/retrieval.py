"""Retrieval metrics: recall at k and median ranks.

An image may have several captions; a caption has one image. From images to
texts, the best ranked of an image's captions counts, as is usual on COCO and
Flickr30k (Karpathy & Fei-Fei 2015; Radford et al. 2021).

Ties are ranked pessimistically: a wrong answer with the score of the correct
one is ranked before it. A model with constant scores ranks the correct one
last.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

Recalls = dict[str, float]

_CHUNK = 256
# Of MaxSim, in memory at once: 64 MB.
_MAX_PRODUCTS = 2**24


def recall_at_k(
  similarity: Float[np.ndarray, 'I T'],
  image_of_text: Int[np.ndarray, '_'] | None = None,
  ks: Sequence[int] = (1, 5, 10),
) -> Recalls:
  """Recall at k in both directions, from all similarities.

  Args:
    similarity: similarities [I, T] of images and texts; greater is nearer.
    image_of_text: int [T], index of each text's image; by default text i
      belongs to image i.
    ks: numbers of results to retrieve.

  Returns:
    'image_to_text_r1' and so on: the fraction, in 0..1, of images with one of
    their captions among the k nearest texts; 'text_to_image_r1': the fraction
    of texts whose image is among the k nearest images; and the median ranks
    'image_to_text_median_rank', 'text_to_image_median_rank', from 1. Images
    without a caption count only as wrong answers.

  Raises:
    ValueError: if shapes don't fit, for NaNs, or for an image out of range.
  """
  similarity = np.asarray(similarity)
  num_images, num_texts = similarity.shape
  image_of_text = _check(image_of_text, num_images, num_texts)
  if np.isnan(similarity).any():
    raise ValueError('similarities contain NaN, which has no rank')
  text_ranks = _text_ranks(similarity, image_of_text)
  image_ranks = _image_ranks(similarity, image_of_text)
  return _summary(image_ranks, text_ranks, ks)


def maxsim(
  queries: Float[np.ndarray, 'I N D'],
  documents: Float[np.ndarray, 'T M D'],
  tile: int = 0,
) -> Float[np.ndarray, 'I T']:
  """Scores by MaxSim (Faysse et al. 2024, equation 1), as means over queries.

  The mean over a query's vectors of the largest inner product with one of the
  document's. Vectors of zeros are padding.

  Args:
    queries: vectors [I, N, D].
    documents: vectors [T, M, D].
    tile: number of documents whose inner products with one query are in memory
      at once; 0 for as many as fit into 64 MB, at least one.
  """
  length, (number, size, width) = queries.shape[1], documents.shape
  tile = tile or max(1, _MAX_PRODUCTS // max(1, length * size))
  # Those that are not padding.
  queries = [query[np.any(query, axis=-1)] for query in queries]
  scores = np.zeros((len(queries), number), np.float32)
  for start in range(0, number, tile):
    part = documents[start : start + tile]
    padding = ~np.any(part, axis=-1)  # [t, M]
    columns = part.reshape(-1, width).T  # [D, t * M]
    for i, query in enumerate(queries):
      if len(query):
        products = (query @ columns).reshape(len(query), -1, size)
        products[:, padding] = -np.inf
        nearest = products.max(axis=-1)  # [N, t]
        scores[i, start : start + tile] = nearest.mean(axis=0)
  return scores


def recall_of_tokens(
  images: Float[np.ndarray, 'I N D'],
  texts: Float[np.ndarray, 'T M D'],
  image_of_text: Int[np.ndarray, '_'] | None = None,
  tile: int = 0,
) -> Recalls:
  """Recall at k of `maxsim` with its `tile`, as `recall_at_k` has it."""
  return recall_at_k(maxsim(images, texts, tile), image_of_text)


def recall_of_embeddings(
  images: Float[np.ndarray, 'I D'],
  texts: Float[np.ndarray, 'T D'],
  image_of_text: Int[np.ndarray, '_'] | None = None,
  ks: Sequence[int] = (1, 5, 10),
) -> Recalls:
  """Recall at k of inner products, computed in chunks.

  Args:
    images: embeddings [I, D], normalised for cosine similarity.
    texts: embeddings [T, D].
    image_of_text: index of each text's image, as in `recall_at_k`.
    ks: numbers of results to retrieve.

  Returns:
    The metrics of `recall_at_k`. At most a few hundred rows of similarities are
    in memory at once.

  Raises:
    ValueError: as for `recall_at_k`.
  """
  images, texts = np.asarray(images), np.asarray(texts)
  image_of_text = _check(image_of_text, len(images), len(texts))
  if np.isnan(images).any() or np.isnan(texts).any():
    raise ValueError('embeddings contain NaN, which has no rank')
  # Each direction has its own pass, in which the scores of correct and wrong
  # answers come from one product, so that rounding can't make ties unequal.
  owners, own_texts = _group(image_of_text)
  of_images = _score(images[owners], texts)
  of_texts = _score(texts, images)
  image_ranks = [*map(_rank, of_images, own_texts)]
  text_ranks = [*map(_rank, of_texts, image_of_text[:, None])]
  return _summary(np.asarray(image_ranks), np.asarray(text_ranks), ks)


def _score(queries: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
  """Yields the scores of all values for each query.

  All chunks are computed in the same memory: new memory for each takes as long
  as the product. So an array is valid until the next one.
  """
  dtype = np.result_type(queries, values)
  memory = np.empty((_CHUNK, len(values)), dtype)
  for start in range(0, len(queries), _CHUNK):
    chunk = queries[start : start + _CHUNK]
    yield from np.matmul(chunk, values.T, out=memory[: len(chunk)])


def _text_ranks(
  similarity: np.ndarray, image_of_text: np.ndarray
) -> np.ndarray:
  right = similarity[image_of_text, np.arange(len(image_of_text))]
  return np.sum(similarity >= right, axis=0)


def _image_ranks(
  similarity: np.ndarray, image_of_text: np.ndarray
) -> np.ndarray:
  owners, own_texts = _group(image_of_text)
  return np.asarray([*map(_rank, similarity[owners], own_texts)])


def _group(image_of_text: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
  """The images that have texts, and the indices of each one's texts."""
  order = np.argsort(image_of_text, kind='stable')
  owners, starts = np.unique(image_of_text[order], return_index=True)
  return owners, np.split(order, starts[1:])


def _rank(scores: np.ndarray, right: np.ndarray) -> int:
  """Rank, from 1, of the best correct answer, after wrong ones of its score.

  Args:
    scores: of all answers.
    right: indices of the correct ones.
  """
  own = scores[right]
  best = own.max()
  wrong = np.count_nonzero(scores >= best) - np.count_nonzero(own >= best)
  return 1 + int(wrong)


def _summary(
  image_ranks: np.ndarray, text_ranks: np.ndarray, ks: Sequence[int]
) -> Recalls:
  by_direction = {'image_to_text': image_ranks, 'text_to_image': text_ranks}
  recalls = {
    f'{name}_r{k}': float(np.mean(ranks <= k))
    for name, ranks in by_direction.items()
    for k in ks
  }
  for name, ranks in by_direction.items():
    recalls[f'{name}_median_rank'] = float(np.median(ranks))
  return recalls


def _check(
  image_of_text: np.ndarray | None, num_images: int, num_texts: int
) -> np.ndarray:
  if image_of_text is None:
    if num_images != num_texts:
      raise ValueError(
        f'{num_images} images and {num_texts} texts are not pairs; pass '
        'image_of_text with the image of each text'
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
