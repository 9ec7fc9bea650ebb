"""Evaluates the classification of records."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import contact_sheet, preprocess, sources
from mmjax.evaluators import inputs as inputs_lib
from mmjax.evaluators import spread
from mmjax.metrics import classification
from mmjax.types import Batch, Params


class Classes:
  """Compares predicted classes with true ones.

  Of one class a record, yields `NAME/accuracy`, `NAME/top5_accuracy` (of more
  than 5 classes), `NAME/balanced_accuracy` (the mean over classes), and
  `NAME/majority_accuracy`, that of always predicting the commonest class. With
  a threshold also `NAME/confident`, the fraction of records whose class has a
  probability above it, and, if there are any, their `NAME/confident_accuracy`.
  Of several, `NAME/average_precision` (the mean over classes, mAP), its chance
  `NAME/chance_average_precision`, and `NAME/exact`, the fraction of records
  with all classes right.

  With several input fields, it also yields the first of these from each of
  their subsets, the others masked: `NAME/accuracy/only_FIELDS`.
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
    name: str = 'classes',
    threshold: float | None = None,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      predict: function (params, batch) -> logits [B, C].
      source: records with the target.
      preprocessor: preprocessor that makes the features.
      target: feature of the class.
      inputs: features that the model reads.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
      threshold: probability above which a prediction is a pseudo-label; None
        where the model learns from none.
    """
    self._threshold = threshold
    self._predict = spread.jit_over_mesh(predict)
    self._source, self._preprocess = source, preprocessor
    self._target, self._inputs = target, tuple(inputs)
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._found: inputs_lib.Predictions | None = None

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the target.

    Raises:
      ConfigError: if there are none.
    """
    found = self._found = inputs_lib.predict(
      self._predict,
      params,
      self._source,
      self._preprocess,
      target=self._target,
      inputs=self._inputs,
      batch_size=self._batch_size,
      num_examples=self._num,
    )
    is_many = self._preprocess[self._target].multi_label
    measure = _measure_many if is_many else _measure_one
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

  def draw(self) -> Image.Image | None:
    """Records with their true and predicted classes."""
    if self._found is None:
      return None
    classes = np.asarray(self._preprocess[self._target].classes)
    logits, truth = self._found.outputs, self._found.truth
    cells = []
    step = max(1, len(logits) // 24)
    for i in range(0, len(logits), step)[:24]:
      if truth.ndim > 1:
        true, predicted = classes[truth[i] > 0.5], classes[logits[i] > 0]
      else:
        true, predicted = classes[[truth[i]]], classes[[np.argmax(logits[i])]]
      right = list(true) == list(predicted)
      color = contact_sheet.RIGHT if right else contact_sheet.WRONG
      drawing, lines = inputs_lib.draw(
        self._source[int(self._found.records[i])],
        [self._preprocess[name] for name in self._inputs],
      )
      lines = [*lines[:2], (f'true: {", ".join(true)}', contact_sheet.QUIET)]
      lines.append((f'predicted: {", ".join(predicted)}', color))
      cells.append((drawing, lines))
    return contact_sheet.draw(
      cells, title=f'{self._name}: predicted {self._target} (green: correct)'
    )


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
