"""Caption metrics: exact match, BLEU-4, ROUGE-L and CIDEr-D.

All take one caption per image and that image's references. Words are
lower-cased runs of letters and digits (with inner apostrophes). Published COCO
results use the Penn Treebank tokenizer, which differs on hyphens and
contractions, so compare with them with care.
"""

import collections
import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")

MAX_ORDER = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0


def split_words(text: str) -> list[str]:
  """Splits a caption into words, without case and punctuation.

  >>> split_words("A dog's ball, twice-thrown.")
  ['a', "dog's", 'ball', 'twice', 'thrown']
  """
  return _WORD.findall(text.lower())


def exact_match(
  captions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
  """Fraction of captions that equal one of their references, word for word.

  Args:
    captions: N captions.
    references: one or more references of each caption.

  Returns:
    A number in 0..1.

  Raises:
    ValueError: if there are no captions, or a caption has no references. The
      other metrics here raise it too.
  """
  pairs = _pairs(captions, references)
  return float(np.mean([caption in answers for caption, answers in pairs]))


def bleu(
  captions: Sequence[str],
  references: Sequence[Sequence[str]],
  max_order: int = MAX_ORDER,
) -> float:
  """BLEU over the whole corpus (Papineni et al. 2002, section 2.3).

  The geometric mean of the clipped n-gram precisions, n = 1..max_order, times
  the brevity penalty exp(1 - r / c), where r sums each caption's nearest
  reference length, the shorter of two equally near. It is not smoothed: 0 if no
  n-gram of some order matches.

  Args:
    captions: N captions.
    references: one or more references of each caption.
    max_order: length of the longest n-grams; 4 for BLEU-4.

  Returns:
    A number in 0..1.
  """
  matches, totals = np.zeros(max_order), np.zeros(max_order)
  length, reference_length = 0, 0
  for caption, answers in _pairs(captions, references):
    length += len(caption)
    reference_length += min(
      (abs(len(answer) - len(caption)), len(answer)) for answer in answers
    )[1]
    for n in range(1, max_order + 1):
      counts = _ngrams(caption, n)
      most = collections.Counter()
      for answer in answers:
        most |= _ngrams(answer, n)
      matches[n - 1] += (counts & most).total()
      totals[n - 1] += counts.total()
  if matches.min() == 0:
    return 0.0
  brevity = min(0.0, 1 - reference_length / length)
  return float(np.exp(brevity + np.mean(np.log(matches / totals))))


def rouge_l(
  captions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
  """Mean ROUGE-L: an F-score of the longest common subsequence (Lin 2004).

  Equations 2 to 4 with beta = 1.2, and the greatest precision and the greatest
  recall over references, as in the COCO caption evaluation.

  Args:
    captions: N captions.
    references: one or more references of each caption.

  Returns:
    A number in 0..1.
  """
  scores = []
  for caption, answers in _pairs(captions, references):
    common = [_common_subsequence(caption, answer) for answer in answers]
    precision = max(common) / max(len(caption), 1)
    recall = max(
      shared / max(len(answer), 1)
      for shared, answer in zip(common, answers, strict=True)
    )
    if precision == 0 or recall == 0:
      scores.append(0.0)
      continue
    beta2 = ROUGE_BETA**2
    scores.append(
      (1 + beta2) * precision * recall / (recall + beta2 * precision)
    )
  return float(np.mean(scores))


def cider_d(
  captions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
  """Mean CIDEr-D: tf-idf weighted n-gram agreement (Vedantam et al. 2015).

  Section 6, with n = 1..4 and sigma = 6: clipped cosine similarity to each
  reference, times exp(-(difference in length)^2 / (2 sigma^2)), averaged over
  references and n, times 10. An n-gram's document frequency is the number of
  images that have it in their references, so scores depend on the data set;
  with a single image all are 0. As in the published code, a length is counted
  in bigrams.

  Args:
    captions: N captions.
    references: one or more references of each caption.

  Returns:
    A number in 0..10, about 1 for captions of people.
  """
  pairs = _pairs(captions, references)
  document_frequency = collections.Counter()
  for _, answers in pairs:
    document_frequency.update(
      {ngram for answer in answers for ngram in _all_ngrams(answer)}
    )
  scores = []
  for caption, answers in pairs:
    vectors = _tf_idf(caption, document_frequency, len(pairs))
    similarities = []
    for answer in answers:
      others = _tf_idf(answer, document_frequency, len(pairs))
      difference = max(len(caption) - 1, 0) - max(len(answer) - 1, 0)
      penalty = np.exp(-(difference**2) / (2 * CIDER_SIGMA**2))
      similarities += [
        penalty * _clipped_cosine(vectors[n], others[n])
        for n in range(MAX_ORDER)
      ]
    scores.append(10 * np.mean(similarities))
  return float(np.mean(scores))


def _pairs(
  captions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[tuple[list[str], list[list[str]]]]:
  if len(captions) != len(references):
    raise ValueError(
      f'{len(captions)} captions and {len(references)} lists of references; '
      'give one list for each'
    )
  if not captions:
    raise ValueError('there are no captions')
  for i, answers in enumerate(references):
    if isinstance(answers, str) or not answers:
      raise ValueError(
        f'caption {i} needs a list of one or more references, not {answers!r}'
      )
  return [
    (split_words(caption), [split_words(answer) for answer in answers])
    for caption, answers in zip(captions, references, strict=True)
  ]


def _ngrams(tokens: list[str], n: int) -> collections.Counter:
  return collections.Counter(
    tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)
  )


def _all_ngrams(tokens: list[str]) -> set[tuple[str, ...]]:
  return {
    ngram for n in range(1, MAX_ORDER + 1) for ngram in _ngrams(tokens, n)
  }


def _common_subsequence(first: list[str], second: list[str]) -> int:
  """Length of the longest common subsequence."""
  row = [0] * (len(second) + 1)
  for word in first:
    diagonal = 0
    for j, other in enumerate(second, 1):
      diagonal, row[j] = (
        row[j],
        diagonal + 1 if word == other else max(row[j], row[j - 1]),
      )
  return row[-1]


def _tf_idf(
  tokens: list[str], document_frequency: collections.Counter, num_documents: int
) -> list[dict[tuple[str, ...], float]]:
  return [
    {
      ngram: count * np.log(num_documents / max(1, document_frequency[ngram]))
      for ngram, count in _ngrams(tokens, n).items()
    }
    for n in range(1, MAX_ORDER + 1)
  ]


def _clipped_cosine(
  vector: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]
) -> float:
  norm = np.sqrt(sum(value**2 for value in vector.values()))
  norm *= np.sqrt(sum(value**2 for value in other.values()))
  if norm == 0:
    return 0.0
  shared = sum(
    min(value, other[ngram]) * other[ngram]
    for ngram, value in vector.items()
    if ngram in other
  )
  return shared / norm
