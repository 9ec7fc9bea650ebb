"""Evaluates the classification of records."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmjax.data import contact_sheet
from mmjax.evaluators import inputs as inputs_lib
from mmjax.metrics import classification
from mmjax.types import Params


class Classes(inputs_lib.InputsEvaluator):
  """Compares predicted classes with true ones.

  `predict` returns logits [B, C].

  Of one class a record, yields `NAME/accuracy`, `NAME/top5_accuracy` (of more
  than 5 classes), `NAME/balanced_accuracy` (the mean over classes), and
  `NAME/majority_accuracy`, that of always predicting the commonest class. With
  a threshold also `NAME/confident`, the fraction of records whose class has a
  probability above it, and, if there are any, their `NAME/confident_accuracy`.
  Of several, `NAME/average_precision` (the mean over classes, mAP), its chance
  `NAME/chance_average_precision`, and `NAME/exact`, the fraction of records
  with all classes right.

  With several input features, it also yields the first of these from each of
  their subsets, the others masked: `NAME/accuracy/only_FIELDS`.
  """

  def __init__(
    self, *args: Any, threshold: float | None = None, **settings: Any
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      *args: as of `InputsEvaluator`.
      threshold: probability above which a prediction is a pseudo-label; None
        where the model learns from none.
      **settings: as of `InputsEvaluator`.
    """
    super().__init__(*args, **settings)
    self._threshold = threshold

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    found = self._predict_subsets(params)
    measure = _measure_many if self._feature.multi_label else _measure_one
    values = measure(found.outputs, found.truth)
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)
    first = next(iter(values))
    if self._threshold is not None:
      confident = classification.measure_confident(
        found.outputs, found.truth, self._threshold
      )
      for key, value in confident.items():
        yield f'{self._name}/{key}', float(value)
    for chosen, outputs in found.by_subset.items():
      value = measure(outputs, found.truth)[first]
      yield f'{self._name}/{first}/only_{"_".join(chosen)}', float(value)

  @property
  def _title(self) -> str:
    return f'predicted {self._target} (green: correct)'

  def _compare(self, i: int) -> list[contact_sheet.Line]:
    classes = np.asarray(self._feature.classes)
    logits, truth = self._predictions.outputs, self._predictions.truth
    if truth.ndim > 1:
      true, predicted = classes[truth[i] > 0.5], classes[logits[i] > 0]
    else:
      true, predicted = classes[[truth[i]]], classes[[np.argmax(logits[i])]]
    is_right = list(true) == list(predicted)
    color = contact_sheet.RIGHT if is_right else contact_sheet.WRONG
    return [
      (f'true: {", ".join(true)}', contact_sheet.QUIET),
      (f'predicted: {", ".join(predicted)}', color),
    ]


def _measure_one(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  number = logits.shape[1]
  counts = classification.confusion_matrix(
    np.argmax(logits, axis=1), labels, number
  )
  values = {'accuracy': classification.top_k_accuracy(logits, labels)}
  if number > 5:
    values['top5_accuracy'] = classification.top_k_accuracy(logits, labels, 5)
  values['balanced_accuracy'] = classification.balanced_accuracy(counts)
  values['majority_accuracy'] = counts.sum(axis=1).max() / len(labels)
  return values


def _measure_many(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
  labels = truth > 0.5
  return {
    'average_precision': classification.mean_average_precision(logits, labels),
    'chance_average_precision': float(
      labels.mean(axis=0)[labels.any(axis=0)].mean()
    ),
    'exact': float(np.mean(((logits > 0) == labels).all(axis=1))),
  }
