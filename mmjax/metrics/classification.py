"""Classification metrics: accuracies and confusion matrices.

Labels below 0 mean "none", for example an answer outside of the vocabulary: no
prediction is correct for them, and they belong to no class.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def top_k_accuracy(
  logits: Float[np.ndarray, 'B C'], labels: Int[np.ndarray, ' B'], k: int = 1
) -> float:
  """Fraction of examples whose label is among the k greatest logits.

  A class whose logit equals the label's is ranked before it.

  Args:
    logits: logits [B, C].
    labels: int [B]; those below 0 count as wrong.
    k: number of guesses.

  Returns:
    A number in 0..1.

  Raises:
    ValueError: if k isn't in 1..C, a label isn't a class, or there are no
      examples.
  """
  logits, labels = np.asarray(logits), np.asarray(labels)
  num_classes = logits.shape[1]
  if not 1 <= k <= num_classes:
    raise ValueError(f'k = {k} is not in 1..{num_classes}, the classes')
  _check(labels, num_classes)
  right = logits[np.arange(len(labels)), np.maximum(labels, 0)]
  ranks = np.sum(logits >= right[:, None], axis=1)
  return float(np.mean((ranks <= k) & (labels >= 0)))


def measure_confident(
  logits: Float[np.ndarray, 'B C'],
  labels: Int[np.ndarray, ' B'],
  threshold: float,
) -> dict[str, float]:
  """How many predictions are confident, and how many of those are right.

  Args:
    logits: logits [B, C].
    labels: int [B]; those below 0 count as wrong.
    threshold: probability (of the softmax) that the likeliest class exceeds.

  Returns:
    `confident`, the fraction of examples above the threshold, and
    `confident_accuracy`, the fraction of those that are right; the second only
    if there are any.
  """
  logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
  _check(labels, logits.shape[1])
  best = logits.max(axis=1)
  # The likeliest class has the probability 1 / sum(exp(logits - best)).
  sums = np.exp(logits - best[:, None]).sum(axis=1)  # [B]
  kept = sums * threshold < 1
  values = {'confident': float(kept.mean())}
  if kept.any():
    right = np.argmax(logits, axis=1) == labels
    values['confident_accuracy'] = float(right[kept].mean())
  return values


def confusion_matrix(
  predictions: Int[np.ndarray, ' B'],
  labels: Int[np.ndarray, ' B'],
  num_classes: int,
) -> Int[np.ndarray, 'C C']:
  """Counts [C, C] of examples by label (row) and prediction (column).

  Args:
    predictions: int [B] in 0..C - 1.
    labels: int [B] in 0..C - 1; those below 0 are left out.
    num_classes: number of classes, C.

  Raises:
    ValueError: for predictions or labels out of range.
  """
  predictions, labels = np.asarray(predictions), np.asarray(labels)
  _check(labels, num_classes)
  _check(predictions, num_classes)
  if predictions.size and predictions.min() < 0:
    raise ValueError(f'prediction {predictions.min()} is not a class')
  kept = labels >= 0
  counts = np.zeros((num_classes, num_classes), np.int64)
  np.add.at(counts, (labels[kept], predictions[kept]), 1)
  return counts


def per_class_accuracy(
  counts: Int[np.ndarray, 'C C'],
) -> Float[np.ndarray, ' C']:
  """Fraction of each class's examples with a correct prediction (its recall).

  Args:
    counts: result [C, C] of `confusion_matrix`.

  Returns:
    Recalls [C], NaN for classes without examples.
  """
  totals = counts.sum(axis=1)
  rates = np.full(len(counts), np.nan)
  return np.divide(np.diagonal(counts), totals, out=rates, where=totals > 0)


def balanced_accuracy(counts: Int[np.ndarray, 'C C']) -> float:
  """Mean of `per_class_accuracy` over the classes that have examples.

  Raises:
    ValueError: if no class has examples.
  """
  if counts.sum() == 0:
    raise ValueError('there are no labelled examples')
  return float(np.nanmean(per_class_accuracy(counts)))


def mean_average_precision(
  logits: Float[np.ndarray, 'B C'], labels: Bool[np.ndarray, 'B C']
) -> float:
  """Mean over classes of the average precision (mAP).

  Of each class, the mean of the precision at the rank of each example that has
  it (Everingham et al. 2010, without interpolation). Of equal logits, those of
  examples without the class are ranked first.

  Args:
    logits: logits [B, C].
    labels: bool [B, C], True for the classes of each example.

  Returns:
    A number in 0..1, over the classes that an example has.

  Raises:
    ValueError: if no example has a class.
  """
  logits, labels = np.asarray(logits), np.asarray(labels, bool)
  precisions = []
  for scores, right in zip(logits.T, labels.T, strict=True):
    if not right.any():
      continue
    ordered = right[np.lexsort((right, -scores))]
    ranks = np.flatnonzero(ordered) + 1
    precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
  if not precisions:
    raise ValueError('no example has a class')
  return float(np.mean(precisions))


def _check(labels: np.ndarray, num_classes: int) -> None:
  if labels.size == 0:
    raise ValueError('there are no examples')
  if labels.max() >= num_classes:
    raise ValueError(
      f'label {labels.max()} is not one of {num_classes} classes, 0 to '
      f'{num_classes - 1}'
    )
