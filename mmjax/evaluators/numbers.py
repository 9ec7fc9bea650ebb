"""Evaluates predicted numbers."""

from collections.abc import Iterator

import numpy as np

from mmjax.data import contact_sheet
from mmjax.evaluators import inputs as inputs_lib
from mmjax.types import Params


class Numbers(inputs_lib.InputsEvaluator):
  """Compares predicted numbers with true ones, in the records' unit.

  `predict` returns standardised numbers [B, D].

  Yields `NAME/absolute_error` and `NAME/squared_error` (means),
  `NAME/mean_absolute_error`, the absolute error of always predicting the
  training records' mean, and `NAME/r2`, the coefficient of determination. With
  several input features, it also yields the absolute error from each of their
  subsets, the others masked: `NAME/absolute_error/only_FIELDS`.
  """

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    found = self._predict_subsets(params)
    feature = self._feature
    std, mean = np.atleast_1d(feature.std), np.atleast_1d(feature.mean)
    self._truth = found.truth.reshape(len(found.truth), -1) * std + mean
    self._predicted = found.outputs * std + mean
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

  def _compare(self, i: int) -> list[contact_sheet.Line]:
    true, predicted = (
      ', '.join(f'{value:.4g}' for value in values[i][:3])
      for values in (self._truth, self._predicted)
    )
    return [
      (f'true: {true}', contact_sheet.QUIET),
      f'predicted: {predicted}',
    ]
