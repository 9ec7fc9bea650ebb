"""Evaluates image-text retrieval."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, images, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.metrics import retrieval
from mmjax.types import Batch, Params

Predict = Callable[[Params, Batch], Any]


class Retrieval:
  """Retrieves texts for images and images for texts.

  All captions of an image count as correct. Records without an image are left
  out; those without a caption serve as distractors. Yields, for k of 1, 5 and
  10, `NAME/image_to_text_rK` and `NAME/text_to_image_rK`, `NAME/mean_r1` over
  both directions, and `NAME/chance_r1`, the mean R@1 of a random order.

  With `gallery_by`, records are compared only within one value of that metadata
  field, and metrics are means over these galleries, weighted by their number of
  images.
  """

  def __init__(
    self,
    embed_images: Predict,
    embed_texts: Predict,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    batch_size: int,
    num_examples: int = 0,
    gallery_by: str = '',
    name: str = 'retrieval',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      embed_images: function (params, batch with `image`) -> unit vectors
        [B, E].
      embed_texts: function (params, batch with `text`) -> unit vectors [B, E].
      source: records with images and captions.
      preprocessor: preprocessor that makes `image` and `text`.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      gallery_by: metadata field whose values are the galleries; '' for one
        gallery.
      name: prefix of the metrics' names.
    """
    self._embed_images = spread.jit_over_mesh(embed_images)
    self._embed_texts = spread.jit_over_mesh(embed_texts)
    self._source, self._preprocess = source, preprocessor
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._gallery_by, self._name = gallery_by, name
    self._shown: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value).

    Raises:
      ConfigError: if no record has an image, or none of these a caption.
    """
    image_vectors, with_image = self._embed_all_images(params)
    if not len(with_image):
      raise ConfigError(
        f'none of {self._num} records has an image to find; use a data set '
        'with images, or map its features with `fields`'
      )
    texts, owners = [], []
    galleries = collections.defaultdict(list)
    for i in map(int, with_image):
      record = self._source.read_texts(i)
      record_texts = self._preprocess.list_evaluation_texts(record)
      texts += record_texts
      owners += [i] * len(record_texts)
      galleries[str(record['metadata'].get(self._gallery_by))].append(i)
    if not texts:
      raise ConfigError(
        f'none of {len(with_image)} records with an image has a caption to '
        'find; use a data set with captions, or map its features with `fields`'
      )
    text_vectors = self._embed_all_texts(params, texts)
    owners = np.asarray(owners)
    totals = collections.Counter()
    for members in galleries.values():
      for key, value in self._gallery_metrics(
        members, image_vectors, text_vectors, owners
      ):
        totals[key] += value * len(members) / len(with_image)
    first = np.asarray(next(iter(galleries.values())))
    self._show(first, image_vectors, text_vectors, texts, owners)
    for key, value in totals.items():
      yield f'{self._name}/{key}', float(value)

  def draw(self) -> Image.Image | None:
    """Images, their captions and the five nearest texts."""
    if not self._shown:
      return None
    return contact_sheet.draw(
      self._shown,
      columns=4,
      image_size=200,
      title=f'{self._name}: the five nearest captions (green: its own)',
    )

  def _gallery_metrics(
    self,
    members: Sequence[int],
    image_vectors: np.ndarray,
    text_vectors: np.ndarray,
    owners: np.ndarray,
  ) -> Iterator[tuple[str, float]]:
    chosen = np.isin(owners, members)
    position = {index: i for i, index in enumerate(members)}
    recalls = retrieval.recall_of_embeddings(
      image_vectors[list(members)],
      text_vectors[chosen],
      np.asarray([position[i] for i in owners[chosen]]),
    )
    directions = ('image_to_text', 'text_to_image')
    for direction in directions:
      for k in (1, 5, 10):
        yield f'{direction}_r{k}', recalls[f'{direction}_r{k}']
    yield 'mean_r1', np.mean([recalls[f'{name}_r1'] for name in directions])
    # One of c captions among c * n, or one image among n.
    yield 'chance_r1', 1 / len(members)

  def _embed_all_images(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all records, and the indices of those with an image."""
    vectors, masks = [], []
    with batching.iterate_eval(
      self._source,
      self._preprocess,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in ('image', 'image_mask')}
        vectors.append(self._embed_images(params, arrays))
        masks.append(batch['image_mask'])
    return (
      np.concatenate(vectors)[: self._num],
      np.flatnonzero(np.concatenate(masks)[: self._num]),
    )

  def _embed_all_texts(
    self, params: Params, texts: Sequence[str]
  ) -> np.ndarray:
    length, size = self._preprocess.text_length, self._batch_size
    vectors = []
    for start in range(0, len(texts), size):
      ids = np.zeros((size, length), np.int32)
      mask = np.zeros((size, length), bool)
      for row, text in enumerate(texts[start : start + size]):
        ids[row], mask[row] = self._preprocess.tokenizer.encode(text, length)
      arrays = {'text': ids, 'text_mask': mask}
      vectors.append(self._embed_texts(params, arrays))
    return np.concatenate(vectors)[: len(texts)]

  def _show(
    self,
    members: np.ndarray,
    image_vectors: np.ndarray,
    text_vectors: np.ndarray,
    texts: Sequence[str],
    owners: np.ndarray,
    count: int = 12,
  ) -> None:
    self._shown = []
    candidates = np.flatnonzero(np.isin(owners, members))
    members = members[np.isin(members, owners)]  # Those with captions.
    for i in members[:: max(1, len(members) // count)][:count]:
      scores = text_vectors[candidates] @ image_vectors[i]
      lines: list[contact_sheet.Line] = []
      for rank in np.argsort(-scores)[:5]:
        text = candidates[rank]
        right = owners[text] == i
        color = contact_sheet.RIGHT if right else contact_sheet.WRONG
        lines.append((f'{scores[rank]:.2f} {texts[text]}', color))
      caption = texts[int(np.flatnonzero(owners == i)[0])]
      record = self._source[int(i)]
      self._shown.append((images.decode(record['image']), [caption, *lines]))
