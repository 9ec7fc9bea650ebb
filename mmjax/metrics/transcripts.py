"""Transcript metrics: word error rate.

Words are those of `captions.split_words`: lower-cased runs of letters and
digits, so case and punctuation don't count. Numbers are compared as they are
written: '5' is not 'five'.
"""

from collections.abc import Sequence

import numpy as np

from mmjax.metrics import captions


def word_errors(transcript: str, reference: str) -> int:
  """Fewest words to insert, delete or substitute to get the reference.

  >>> word_errors('press one to start', 'Please press one, then start.')
  2
  """
  words = captions.split_words(reference)
  ids = {word: i for i, word in enumerate(words)}
  target = np.asarray([ids[word] for word in words], int)
  # Distances from the words read so far to each prefix of the reference.
  steps = np.arange(len(target) + 1)
  row = steps
  for word in captions.split_words(transcript):
    substituted = row[:-1] + (target != ids.get(word, -1))
    best = np.minimum(row[1:] + 1, substituted)
    best = np.concatenate([row[:1] + 1, best])
    # Insertions: the least of those to the left, plus one for each word.
    row = np.minimum.accumulate(best - steps) + steps
  return int(row[-1])


def word_error_rate(
  transcripts: Sequence[str], references: Sequence[str]
) -> float:
  """Word errors of all transcripts divided by the words of all references.

  Args:
    transcripts: N transcripts.
    references: N true texts.

  Returns:
    A number from 0; it can be more than 1.

  Raises:
    ValueError: if the numbers of texts differ, or no reference has a word.
  """
  if len(transcripts) != len(references):
    raise ValueError(
      f'{len(transcripts)} transcripts, but {len(references)} references'
    )
  number = sum(len(captions.split_words(text)) for text in references)
  if not number:
    raise ValueError('no reference has a word')
  pairs = zip(transcripts, references, strict=True)
  return sum(word_errors(*pair) for pair in pairs) / number
