"""Evaluates generated captions against references."""

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

# From a caption to its objects; None if it can't be parsed.
Parse = Callable[[str], Sequence[Any] | None]
# Parsers of captions by data set.
PARSERS: dict[str, Parse] = {'shapes': shapes_captions.parse_caption}


class Captions:
  """Compares generated captions of images with reference captions.

  Yields `NAME/exact` (the fraction that equals a reference), `NAME/bleu4`,
  `NAME/rouge_l`, `NAME/cider_d`, and `NAME/chance_exact`, the exact matches of
  captions of other images. With `parse`, it also yields `NAME/objects`, the
  fraction of objects with all fields correct, `NAME/chance_objects`, and
  `NAME/attribute/FIELD`, the fraction of objects with this field correct.
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
      generate: function (params, batch with `image`) -> token ids [B, T].
      source: records with images and captions.
      preprocessor: preprocessor that makes `image`; its tokenizer decodes ids.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      parse: parser of captions, for metrics of objects; None for no such
        metrics.
      name: prefix of the metrics' names.
    """
    self._generate = spread.jit_over_mesh(generate, preprocessor.make_inputs)
    self._source, self._preprocess = source, preprocessor
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._parse, self._name = parse, name
    self._written: list[str] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with an image and captions.

    Raises:
      ConfigError: if there are no such records.
    """
    captions = [
      self._references_of(self._source.read_small(i)) for i in range(self._num)
    ]
    if not any(captions):
      raise ConfigError(
        f'none of {self._num} records has a caption to compare with; use a '
        'data set with captions, or map its features with `fields`'
      )
    texts, with_image = self._write(params)
    self._captioned = [int(i) for i in with_image if captions[i]]
    if not self._captioned:
      raise ConfigError(
        f'none of {self._num} records has both an image and a caption'
      )
    written = self._written = [texts[i] for i in self._captioned]
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

  def render(self) -> Image.Image | None:
    """Images with true and generated captions."""
    if not self._written:
      return None
    cells = []
    step = max(1, len(self._written) // 24)
    for i in range(0, len(self._written), step)[:24]:
      written, references = self._written[i], self._references[i]
      right = metrics.exact_match([written], [references]) == 1
      color = contact_sheet.RIGHT if right else contact_sheet.WRONG
      record = self._source[self._captioned[i]]
      image = images.decode(self._preprocess['image'].get(record))
      true = (f'true: {references[0]}', contact_sheet.QUIET)
      cells.append((image, [true, (f'generated: {written}', color)]))
    return contact_sheet.render(
      cells, title=f'{self._name}: generated captions (green: exact)'
    )

  def _references_of(self, record: sources.Record) -> list[str]:
    """The captions of a record, as they are."""
    return self._preprocess['text'].list_alternatives(record)

  def _write(self, params: Params) -> tuple[list[str], np.ndarray]:
    """Captions of all records, and the indices of records with an image."""
    written, masks = [], []
    keys = self._preprocess['image'].list_keys()
    with batching.iterate_eval(
      self._source,
      self._preprocess,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in keys}
        tokens = self._generate(params, arrays)
        written += [self._preprocess.tokenizer.decode(row) for row in tokens]
        mask = batch['image_mask']  # [B], or of tokens [B, N].
        masks.append(mask.reshape(len(mask), -1).any(axis=1))
    return written, np.flatnonzero(np.concatenate(masks)[: self._num])


def attribute_accuracy(
  written: Sequence[Sequence[Any] | None],
  references: Sequence[Sequence[Any] | None],
) -> dict[str, float]:
  """Fractions of the reference's objects with correct attributes.

  Objects are compared in order. All attributes of a missing object count as
  wrong. An extra object makes `number` wrong.

  Args:
    written: objects of each caption as named tuples, or None.
    references: objects of each reference; examples with None are left out.

  Returns:
    'objects' (all attributes correct), 'number' (correct number of objects) and
    'attribute/FIELD' for each field; in 0..1.

  Raises:
    ConfigError: if no reference can be parsed.
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
      guess = objects[i] if i < len(objects) else None
      right['objects'].append(guess == true)
      for field in fields:
        same = guess is not None and getattr(guess, field) == getattr(
          true, field
        )
        right[f'attribute/{field}'].append(same)
  out = {key: float(np.mean(values)) for key, values in right.items()}
  out['number'] = float(np.mean([len(w) == len(r) for w, r in pairs]))
  return out
