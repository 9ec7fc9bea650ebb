"""Evaluates a text that is written from other fields."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import contact_sheet, preprocess, sources
from mmjax.evaluators import inputs as inputs_lib
from mmjax.evaluators import spread
from mmjax.metrics import captions, transcripts
from mmjax.types import Batch, Params


class Texts:
  """Compares written texts with those of the records.

  Yields `NAME/exact`, the fraction that equals one of the record's texts,
  `NAME/bleu4`, `NAME/word_error`, the edits per word of the first one, and
  `NAME/chance_exact`, the exact matches of the texts of other records.
  With several input fields, it also yields the exact matches from each of their
  subsets, the others masked: `NAME/exact/only_FIELDS`.
  """

  def __init__(
    self,
    generate: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    target: str,
    inputs: Sequence[str],
    batch_size: int,
    num_examples: int = 0,
    name: str = 'texts',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      generate: function (params, batch) -> token ids [B, T].
      source: records with the target.
      preprocessor: preprocessor that makes the features.
      target: text feature that is written.
      inputs: features that the model reads.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    self._generate = spread.jit_over_mesh(generate)
    self._source, self._preprocess = source, preprocessor
    self._target, self._inputs = target, tuple(inputs)
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._written: list[str] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the target.

    Raises:
      ConfigError: if there are none.
    """
    found = inputs_lib.predict(
      self._generate,
      params,
      self._source,
      self._preprocess,
      target=self._target,
      inputs=self._inputs,
      batch_size=self._batch_size,
      num_examples=self._num,
    )
    feature = self._preprocess[self._target]
    self._records = found.records
    self._references = [
      feature.list_evaluation_texts(self._source.read_small(int(i)))
      for i in found.records
    ]
    self._written = self._decode(found.outputs)
    others = [texts[0] for texts in self._references]
    first = list(others)
    others = others[1:] + others[:1]
    values = {
      'exact': captions.exact_match(self._written, self._references),
      'chance_exact': captions.exact_match(others, self._references),
      'bleu4': captions.bleu(self._written, self._references),
      'word_error': transcripts.word_error_rate(self._written, first),
    }
    for chosen, outputs in found.by_subset.items():
      values[f'exact/only_{"_".join(chosen)}'] = captions.exact_match(
        self._decode(outputs), self._references
      )
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  def draw(self) -> Image.Image | None:
    """Records with their true and written texts."""
    if not self._written:
      return None
    cells = []
    step = max(1, len(self._written) // 24)
    for i in range(0, len(self._written), step)[:24]:
      written, references = self._written[i], self._references[i]
      color = contact_sheet.RIGHT
      if written not in references:
        color = contact_sheet.WRONG
      drawing, lines = inputs_lib.draw(
        self._source[int(self._records[i])],
        [self._preprocess[name] for name in self._inputs],
      )
      true = (f'true: {references[0]}', contact_sheet.QUIET)
      cells.append(
        (drawing, [*lines[:2], true, (f'written: {written}', color)])
      )
    return contact_sheet.draw(
      cells, title=f'{self._name}: written {self._target} (green: exact)'
    )

  def _decode(self, ids: np.ndarray) -> list[str]:
    return [self._preprocess.tokenizer.decode(row) for row in ids]
