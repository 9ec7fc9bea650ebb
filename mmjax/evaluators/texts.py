"""Evaluates a text that is written from other features."""

from collections.abc import Iterator

import numpy as np

from mmjax.data import contact_sheet
from mmjax.evaluators import inputs as inputs_lib
from mmjax.metrics import captions, transcripts, translations
from mmjax.types import Params


class Texts(inputs_lib.InputsEvaluator):
  """Compares written texts with those of the records.

  `predict` returns token ids [B, T].

  Yields `NAME/exact`, the fraction that equals one of the record's texts,
  `NAME/chrf`, `NAME/bleu4`, `NAME/word_error`, the edits per word of the first
  one, and `NAME/chance_exact`, the exact matches of the texts of other records.
  With several input features, it also yields the exact matches from each of
  their
  subsets, the others masked: `NAME/exact/only_FIELDS`.
  """

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    found = self._predict_subsets(params)
    self._references = [
      self._feature.list_evaluation_texts(self._source.read_small(int(i)))
      for i in found.records
    ]
    self._written = self._decode(found.outputs)
    first = [texts[0] for texts in self._references]
    values = {
      'exact': captions.exact_match(self._written, self._references),
      'chance_exact': captions.exact_match(
        first[1:] + first[:1], self._references
      ),
      'chrf': translations.chrf(self._written, self._references),
      'bleu4': captions.bleu(self._written, self._references),
      'word_error': transcripts.word_error_rate(self._written, first),
    }
    for chosen, outputs in found.by_subset.items():
      values[f'exact/only_{"_".join(chosen)}'] = captions.exact_match(
        self._decode(outputs), self._references
      )
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  @property
  def _title(self) -> str:
    return f'written {self._target} (green: exact)'

  def _compare(self, i: int) -> list[contact_sheet.Line]:
    written, references = self._written[i], self._references[i]
    is_right = written in references
    color = contact_sheet.RIGHT if is_right else contact_sheet.WRONG
    true = (f'true: {references[0]}', contact_sheet.QUIET)
    return [true, (f'written: {written}', color)]

  def _decode(self, ids: np.ndarray) -> list[str]:
    return [self._preprocessor.tokenizer.decode(row) for row in ids]
