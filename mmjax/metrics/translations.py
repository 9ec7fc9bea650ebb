"""Translation metrics on characters."""

import collections
from collections.abc import Sequence

import numpy as np

MAX_ORDER = 6
BETA = 2.0


def chrf(
  texts: Sequence[str],
  references: Sequence[Sequence[str]],
  max_order: int = MAX_ORDER,
  beta: float = BETA,
) -> float:
  """F-score of character n-grams over the whole corpus (Popovic 2015).

  Precisions and recalls of the orders n = 1..max_order, without spaces, are
  averaged over the orders that occur, as in sacreBLEU; recall counts beta times
  as much. It gives credit to words that are almost right, and needs no word
  boundaries. Of several references of a text, the one of the highest score of
  its own counts.

  Args:
    texts: N texts.
    references: one or more references of each text.
    max_order: length of the longest n-grams.
    beta: weight of the recall.

  Returns:
    A number in 0..1.

  Raises:
    ValueError: if there are no texts, other numbers of references, or a text
      without any.
  """
  if not texts or len(texts) != len(references) or not all(references):
    raise ValueError(
      f'{len(texts)} texts have {len(references)} lists of references; each '
      'text needs one that is not empty'
    )
  total = np.zeros((3, max_order))
  for text, answers in zip(texts, references, strict=True):
    rows = [_count(text, answer, max_order) for answer in answers]
    total += max(rows, key=lambda counts: _score(counts, beta))
  return _score(total, beta)


def _count(text: str, reference: str, max_order: int) -> np.ndarray:
  """Numbers of n-grams [3, max_order]: common ones, the text's, the other's."""
  counts = np.zeros((3, max_order))
  for n in range(1, max_order + 1):
    mine, other = (_ngrams(''.join(t.split()), n) for t in (text, reference))
    if other:  # As in sacreBLEU; a shorter reference says nothing of n.
      counts[:, n - 1] = [(mine & other).total(), mine.total(), other.total()]
  return counts


def _ngrams(text: str, n: int) -> collections.Counter:
  return collections.Counter(text[i : i + n] for i in range(len(text) - n + 1))


def _score(counts: np.ndarray, beta: float) -> float:
  matches, mine, other = counts[:, (counts[1:] > 0).all(axis=0)]
  if not matches.any():
    return 0.0
  precision, recall = (matches / mine).mean(), (matches / other).mean()
  factor = beta**2
  return float(
    (1 + factor) * precision * recall / (factor * precision + recall)
  )
