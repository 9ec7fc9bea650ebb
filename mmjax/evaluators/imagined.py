"""Evaluates embeddings of images that a model imagines of texts."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, images, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.metrics import retrieval
from mmjax.types import Batch, Params

_SHOWN = 24


class Imagined:
  """Compares embeddings that are made of texts with those of the images.

  It yields `NAME/cosine`, the mean cosine of an imagined embedding and that of
  the record's image, and `NAME/r1`, the fraction whose own image is the nearest
  one of the split; and for comparison the same of the texts' own embeddings,
  `NAME/text_cosine` and `NAME/text_r1`.
  """

  def __init__(
    self,
    imagine: Callable[[Params, Batch], Any],
    embed_image: Callable[[Params, Batch], Any],
    embed_text: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    condition: str,
    batch_size: int,
    num_examples: int = 0,
    name: str = 'prior',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      imagine: from texts and seeds to unit vectors.
      embed_image: from images to unit vectors.
      embed_text: from texts to unit vectors.
      source: records with images and texts.
      preprocessor: preprocessor that makes both.
      feature: feature of the images.
      condition: feature of the texts.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    make_inputs = preprocessor.make_inputs
    self._functions = [
      spread.jit_over_mesh(function, make_inputs)
      for function in (imagine, embed_image, embed_text)
    ]
    self._source, self._preprocess = source, preprocessor
    self._feature, self._condition = feature, condition
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._name = name
    self._cells: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with an image and a text.

    Raises:
      ConfigError: if there are no such records.
    """
    (imagined, image, text), chosen = self._compute(params)
    if not chosen:
      raise ConfigError(
        f'none of {self._num} records has both {self._feature!r} and '
        f'{self._condition!r}, to compare embeddings of'
      )
    for prefix, vectors in (('', imagined), ('text_', text)):
      cosines = np.einsum('be,be->b', vectors, image)
      recalls = retrieval.recall_of_embeddings(image, vectors, ks=(1,))
      yield f'{self._name}/{prefix}cosine', float(cosines.mean())
      yield f'{self._name}/{prefix}r1', float(recalls['text_to_image_r1'])
    self._cells = [
      self._make_cell(chosen, i, int(np.argmax(image @ imagined[i])))
      for i in range(min(_SHOWN, len(chosen)))
    ]

  def render(self) -> Image.Image | None:
    """Texts, with the image whose embedding is nearest to the imagined one."""
    if not self._cells:
      return None
    title = f'{self._name}: images nearest to what is imagined of a text'
    return contact_sheet.render(self._cells, title=title)

  def _make_cell(
    self, chosen: list[int], i: int, nearest: int
  ) -> contact_sheet.Cell:
    feature = self._preprocess[self._condition]
    text = feature.list_evaluation_texts(self._source[chosen[i]])[0]
    image = self._preprocess[self._feature].get(self._source[chosen[nearest]])
    right = contact_sheet.RIGHT if nearest == i else contact_sheet.WRONG
    return images.decode(image), [(text, right)]

  def _compute(self, params: Params) -> tuple[list[np.ndarray], list[int]]:
    """Imagined, image and text embeddings [N, E], and the records' numbers."""
    names = self._feature, self._condition
    keys = [key for name in names for key in self._preprocess[name].list_keys()]
    rows: list[list[np.ndarray]] = [[], [], []]
    masks = []
    with batching.iterate_eval(
      self._source, self._preprocess, self._batch_size, num_examples=self._num
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in keys}
        arrays['seed'] = np.asarray(batch['index'], np.int32)
        for out, function in zip(rows, self._functions, strict=True):
          out.append(np.asarray(function(params, arrays)))
        known = batch[f'{self._condition}_mask']
        known = known.reshape(len(known), -1).any(axis=1)
        masks.append(batch['mask'] & batch[f'{self._feature}_mask'] & known)
    having = np.flatnonzero(np.concatenate(masks))
    return [np.concatenate(out)[having] for out in rows], having.tolist()
