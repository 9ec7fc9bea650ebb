"""Written captions against references."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import (
  contact_sheet,
  images,
  preprocess,
  shapes_captions,
  sources,
)
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.metrics import captions as metrics
from mmjax.types import Batch, Params

# From a caption to what it says of each object; None where it can't be read.
Parse = Callable[[str], Sequence[Any] | None]
# By data set: how to read its captions, where they say what can be counted.
PARSERS: dict[str, Parse] = {'shapes': shapes_captions.parse_caption}


class Captions:
  """Compares what a model writes about images with their captions.

  Yields `NAME/exact` (the caption equals one of the references), `NAME/bleu4`,
  `NAME/rouge_l`, `NAME/cider_d`, and as a floor `NAME/chance_exact`: the same
  for a caption of another of these images. With `parse` also `NAME/objects`,
  the share of objects that are right in all fields, its floor
  `NAME/chance_objects`, and for each field of an object
  `NAME/attribute/FIELD`: how often it is right, in order.
  """

  def __init__(
    self,
    generate: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    batch_size: int,
    num_examples: int = 0,
    parse: Parse | None = None,
    name: str = 'captions',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      generate: (params, batch with `image`) -> token ids [B, T].
      source: records with images and captions.
      preprocessor: must make `image`; its tokenizer reads the ids.
      batch_size: examples at a time.
      num_examples: only the first so many records; 0 for all.
      parse: see the class.
      name: prefix of the numbers.
    """
    self._generate = spread.over_mesh(generate)
    self._source, self._preprocess = source, preprocessor
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._parse, self._name = parse, name
    self._written: list[str] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with an image and captions.

    Raises:
      ConfigError: if there is none.
    """
    captions = [
      self._source.read_texts(i)['captions'] for i in range(self._num)
    ]
    if not any(captions):
      raise ConfigError(
        f'none of {self._num} records has a caption to compare with; use a '
        'data set with captions, or map its features with `fields`'
      )
    everything, pictured = self._write(params)
    self._captioned = [int(i) for i in pictured if captions[i]]
    if not self._captioned:
      raise ConfigError(
        f'none of {self._num} records has both an image and a caption'
      )
    written = self._written = [everything[i] for i in self._captioned]
    references = self._references = [captions[i] for i in self._captioned]
    others = [of_image[0] for of_image in references]
    others = others[1:] + others[:1]
    values = {
      'exact': metrics.exact_match(written, references),
      'chance_exact': metrics.exact_match(others, references),
      'bleu4': metrics.bleu(written, references),
      'rouge_l': metrics.rouge_l(written, references),
      'cider_d': metrics.cider_d(written, references),
    }
    if self._parse is not None:
      truth = [self._parse(of_image[0]) for of_image in references]
      values |= attribute_accuracy(list(map(self._parse, written)), truth)
      chance = attribute_accuracy(list(map(self._parse, others)), truth)
      values['chance_objects'] = chance['objects']
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  def picture(self) -> Image.Image | None:
    """Images with true and written captions."""
    if not self._written:
      return None
    cells = []
    step = max(1, len(self._written) // 24)
    for i in range(0, len(self._written), step)[:24]:
      written, references = self._written[i], self._references[i]
      right = metrics.exact_match([written], [references]) == 1
      color = contact_sheet.RIGHT if right else contact_sheet.WRONG
      image = images.decode(self._source[self._captioned[i]]['image'])
      true = (f'true: {references[0]}', contact_sheet.QUIET)
      cells.append((image, [true, (f'written: {written}', color)]))
    return contact_sheet.draw(
      cells, title=f'{self._name}: written captions (green: a reference)'
    )

  def _write(self, params: Params) -> tuple[list[str], np.ndarray]:
    """Texts about all records, and the indices of those with an image."""
    written, there = [], []
    with batching.iterate_eval(
      self._source,
      self._preprocess,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in ('image', 'image_mask')}
        tokens = self._generate(params, arrays)
        written += [self._preprocess.tokenizer.decode(row) for row in tokens]
        there.append(batch['image_mask'])
    return written, np.flatnonzero(np.concatenate(there)[: self._num])


def attribute_accuracy(
  written: Sequence[Sequence[Any] | None],
  references: Sequence[Sequence[Any] | None],
) -> dict[str, float]:
  """How often each attribute of the reference's objects is right.

  Objects are compared in order: the second written with the second true one. A
  missing object is wrong in all attributes. An object too many makes `number`
  wrong.

  Args:
    written: for each caption its objects, named tuples, or None.
    references: the same for the truth; examples with None are left out.

  Returns:
    'objects' (all attributes right), 'number' (as many objects as there are)
    and 'attribute/FIELD' for each field; in 0..1.

  Raises:
    ConfigError: if no reference can be read.
  """
  pairs = [(w or (), r) for w, r in zip(written, references, strict=True) if r]
  if not pairs:
    raise ConfigError('none of the reference captions can be parsed')
  fields = pairs[0][1][0]._fields
  right: dict[str, list[bool]] = {
    'objects': [],
    **{f'attribute/{field}': [] for field in fields},
  }
  for objects, truth in pairs:
    for i, true in enumerate(truth):
      given = objects[i] if i < len(objects) else None
      right['objects'].append(given == true)
      for field in fields:
        same = given is not None and getattr(given, field) == getattr(
          true, field
        )
        right[f'attribute/{field}'].append(same)
  out = {key: float(np.mean(values)) for key, values in right.items()}
  out['number'] = float(np.mean([len(w) == len(r) for w, r in pairs]))
  return out
