"""Evaluates predicted numbers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import contact_sheet, preprocess, sources
from mmjax.evaluators import inputs as inputs_lib
from mmjax.evaluators import spread
from mmjax.types import Batch, Params


class Numbers:
  """Compares predicted numbers with true ones, in the records' unit.

  Yields `NAME/absolute_error` and `NAME/squared_error` (means),
  `NAME/mean_absolute_error`, the absolute error of always predicting the
  training records' mean, and `NAME/r2`, the coefficient of determination. With
  several input fields, it also yields the absolute error from each of their
  subsets, the others masked: `NAME/absolute_error/only_FIELDS`.
  """

  def __init__(
    self,
    predict: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    target: str,
    inputs: Sequence[str],
    batch_size: int,
    num_examples: int = 0,
    name: str = 'numbers',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      predict: function (params, batch) -> standardised numbers [B, D].
      source: records with the target.
      preprocessor: preprocessor that makes the features.
      target: feature of the number or vector.
      inputs: features that the model reads.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    self._predict = spread.jit_over_mesh(predict)
    self._source, self._preprocess = source, preprocessor
    self._target, self._inputs = target, tuple(inputs)
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._predicted = np.zeros((0, 1))

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the target.

    Raises:
      ConfigError: if there are none.
    """
    feature = self._preprocess[self._target]
    found = inputs_lib.predict(
      self._predict,
      params,
      self._source,
      self._preprocess,
      target=self._target,
      inputs=self._inputs,
      batch_size=self._batch_size,
      num_examples=self._num,
    )
    std, mean = np.atleast_1d(feature.std), np.atleast_1d(feature.mean)
    truth = found.truth.reshape(len(found.truth), -1)
    self._truth = truth * std + mean
    self._predicted = found.outputs * std + mean
    self._records = found.records
    errors = self._predicted - self._truth
    yield f'{self._name}/absolute_error', float(np.abs(errors).mean())
    yield f'{self._name}/squared_error', float(np.square(errors).mean())
    chance = np.abs(self._truth - mean).mean()
    yield f'{self._name}/mean_absolute_error', float(chance)
    spread_of = np.square(self._truth - self._truth.mean(axis=0)).sum()
    if spread_of > 0:
      yield f'{self._name}/r2', float(1 - np.square(errors).sum() / spread_of)
    for chosen, outputs in found.by_subset.items():
      error = np.abs(outputs * std + mean - self._truth).mean()
      name = f'{self._name}/absolute_error/only_{"_".join(chosen)}'
      yield name, float(error)

  def draw(self) -> Image.Image | None:
    """Records with their true and predicted numbers."""
    if not len(self._predicted):
      return None
    cells = []
    step = max(1, len(self._predicted) // 24)
    for i in range(0, len(self._predicted), step)[:24]:
      record = self._source[int(self._records[i])]
      drawing, lines = inputs_lib.draw(
        record, [self._preprocess[name] for name in self._inputs]
      )
      true = ', '.join(f'{value:.4g}' for value in self._truth[i][:3])
      guess = ', '.join(f'{value:.4g}' for value in self._predicted[i][:3])
      cells.append(
        (
          drawing,
          [
            *lines[:2],
            (f'true: {true}', contact_sheet.QUIET),
            f'predicted: {guess}',
          ],
        )
      )
    return contact_sheet.draw(
      cells, title=f'{self._name}: predicted {self._target}'
    )
