"""Transcript metrics: word error rate.

Words are those of `captions.words`: lower-cased runs of letters and digits, so
that case and punctuation don't count. Numbers are compared as they are written:
'5' is not 'five'.
"""

from collections.abc import Sequence

import numpy as np

from mmjax.metrics import captions


def word_errors(transcript: str, reference: str) -> int:
  """Fewest words to add, drop or exchange to come to the reference.

  >>> word_errors('press one to go on', 'Please press one, then go on.')
  2
  """
  wanted = captions.words(reference)
  ids = {word: i for i, word in enumerate(wanted)}
  target = np.asarray([ids[word] for word in wanted], int)
  # Distances from the words read so far to each beginning of the reference.
  steps = np.arange(len(target) + 1)
  row = steps
  for word in captions.words(transcript):
    exchanged = row[:-1] + (target != ids.get(word, -1))
    best = np.minimum(row[1:] + 1, exchanged)
    best = np.concatenate([row[:1] + 1, best])
    # Adding words: the least of those to the left, one more for each place.
    row = np.minimum.accumulate(best - steps) + steps
  return int(row[-1])


def word_error_rate(
  transcripts: Sequence[str], references: Sequence[str]
) -> float:
  """Word errors of all transcripts by words of all references.

  Args:
    transcripts: N texts.
    references: N texts, what was said.

  Returns:
    A number from 0; it can be more than 1.

  Raises:
    ValueError: if they are not equally many, or no reference has a word.
  """
  if len(transcripts) != len(references):
    raise ValueError(
      f'{len(transcripts)} transcripts, but {len(references)} references'
    )
  number = sum(len(captions.words(text)) for text in references)
  if not number:
    raise ValueError('no reference has a word')
  pairs = zip(transcripts, references, strict=True)
  return sum(word_errors(*pair) for pair in pairs) / number
