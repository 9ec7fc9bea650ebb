"""Answer metrics: VQA accuracy, overall and by question type."""

import collections
import re
from collections.abc import Sequence

import numpy as np

# Number of agreeing references for the full score.
FULL_AGREEMENT = 3

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WITH_COMMA = re.compile(r'\d,\d')
_PERIOD = re.compile(r'\.(?!\d)')
_ARTICLES = ('a', 'an', 'the')
_NUMBERS = {
  'none': '0',
  'zero': '0',
  'one': '1',
  'two': '2',
  'three': '3',
  'four': '4',
  'five': '5',
  'six': '6',
  'seven': '7',
  'eight': '8',
  'nine': '9',
  'ten': '10',
}

# Contractions whose spelling without an apostrophe is not another word.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd
it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't
not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
shouldn't've somebody'd somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're
they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's
won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
you'll you're you've
"""


def _misspellings() -> dict[str, str]:
  """Contractions by their spellings with one apostrophe missing."""
  return {
    word[:i] + word[i + 1 :]: word
    for word in _CONTRACTIONS.split()
    for i, letter in enumerate(word)
    if letter == "'"
  }


_SPELLINGS = _misspellings()


def normalise(answer: str) -> str:
  """Normalises an answer as VQAv2 does to compare answers.

  Answers are lower-cased. Punctuation is removed, or replaced by a space
  between letters. Number words become digits, articles are removed, and missing
  apostrophes are added (Antol et al. 2015, and its published evaluation code).

  >>> normalise('The Two dogs, dont bark!')
  "2 dogs don't bark"
  """
  text = answer.replace('\n', ' ').replace('\t', ' ').strip()
  stripped = text
  has_number = _NUMBER_WITH_COMMA.search(text) is not None
  for mark in _PUNCTUATION:
    beside_space = f'{mark} ' in text or f' {mark}' in text
    stripped = stripped.replace(mark, '' if beside_space or has_number else ' ')
  stripped = _PERIOD.sub('', stripped)
  tokens = [_NUMBERS.get(word, word) for word in stripped.lower().split()]
  return ' '.join(
    _SPELLINGS.get(word, word) for word in tokens if word not in _ARTICLES
  )


def vqa_score(prediction: str, references: Sequence[str]) -> float:
  """VQAv2 accuracy of one answer (Antol et al. 2015; Goyal et al. 2017).

  It is min(agreeing references / 3, 1), averaged over leaving out one reference
  each. With fewer than four references, which VQAv2 never has, this could not
  reach 1, so an answer scores 1 if it agrees with any of them. Both sides are
  always normalised; the published code does so only if people disagree.

  Args:
    prediction: predicted answer.
    references: people's answers, repetitions included.

  Returns:
    A number in 0..1.

  Raises:
    ValueError: if there are no references.
  """
  if isinstance(references, str) or not references:
    raise ValueError(
      f'a question needs a list of one or more answers, not {references!r}'
    )
  prediction = normalise(prediction)
  agree = np.asarray(
    [normalise(reference) == prediction for reference in references]
  )
  if len(references) <= FULL_AGREEMENT:
    return float(agree.any())
  others = agree.sum() - agree
  return float(np.mean(np.minimum(others / FULL_AGREEMENT, 1)))


def vqa_accuracy(
  predictions: Sequence[str],
  references: Sequence[Sequence[str]],
  types: Sequence[str] | None = None,
) -> dict[str, float]:
  """Mean `vqa_score`, overall and by question type.

  Args:
    predictions: predicted answers of N questions.
    references: people's answers of each question.
    types: type of each question; None for no metrics by type, '' for a question
      that is in none of them.

  Returns:
    'accuracy', and 'accuracy/color' for a type 'color'; in 0..1.

  Raises:
    ValueError: if there are no answers, or lengths differ.
  """
  types = [''] * len(predictions) if types is None else types
  if not len(predictions) == len(references) == len(types):
    raise ValueError(
      f'{len(predictions)} predictions, {len(references)} lists of references '
      f'and {len(types)} types; give one of each for each question'
    )
  if not predictions:
    raise ValueError('there are no answers')
  scores = collections.defaultdict(list)
  for prediction, answers, kind in zip(
    predictions, references, types, strict=True
  ):
    value = vqa_score(prediction, answers)
    scores['accuracy'].append(value)
    if kind:
      scores[f'accuracy/{kind}'].append(value)
  return {name: float(np.mean(scores[name])) for name in sorted(scores)}
