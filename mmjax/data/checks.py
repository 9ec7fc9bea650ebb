"""Refuses, before the first step, data that an objective can't learn from.

What the objectives need, and how long the texts are, is checked on at most
`SAMPLE` records of a split, spread evenly over it.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mmjax.data import preprocess, sources
from mmjax.errors import ConfigError

SAMPLE = 2_000
# A smaller fraction of texts that are cut is not reported.
MIN_CUT_FRACTION = 0.05

# Objective -> the modalities that a record needs for it.
Needs = Mapping[str, Sequence[str]]

_WORDS = {
  'image': 'an image',
  'text': 'a caption',
  'question': 'a question',
  'answer': 'an answer',
}
_HAS: dict[str, Callable[[sources.Record, preprocess.Preprocessor], bool]] = {
  'text': lambda record, preprocessor: (
    bool(record['captions'])
    or any(
      preprocess.read_field_values(record, name)
      for name in preprocessor.text_fields
    )
  ),
  'question': lambda record, _: bool(record['questions']),
  'answer': lambda record, _: any(
    entry['answers'] for entry in record['questions']
  ),
}


def check(
  train: tuple[str, sources.Source],
  others: Mapping[str, sources.Source],
  preprocessor: preprocess.Preprocessor,
  needs: Needs,
) -> tuple[str, ...]:
  """Refuses data from which an objective learns nothing.

  Args:
    train: name of the training split in messages, and its records.
    others: records of the evaluation splits, by their names in messages.
    preprocessor: the run's preprocessor.
    needs: modalities by objective: 'image', 'text', 'question', 'answer'.

  Returns:
    Notes for the user about data that can be trained on.

  Raises:
    ConfigError: if no record of a split has all that an objective needs, if all
      answers or all captions are the same, or if all texts are cut.
  """
  for name, source in (train, *others.items()):
    _refuse_missing(name, source, preprocessor, needs)
  name, source = train
  notes = []
  texts = _count_texts(source, preprocessor)
  for kind, counts in texts.items():
    notes += _check_lengths(
      f'{_describe_sample(source)} of {name}', kind, counts, preprocessor
    )
  _refuse_single(
    name, 'text', texts['text'], len(preprocessor.text_fields) > 0, needs
  )
  if any('answer' in modalities for modalities in needs.values()):
    answers = _count_answers(source)
    _refuse_single(name, 'answer', answers, False, needs)
    notes += _note_unknown_answers(answers, others)
  return tuple(notes)


def _choose_sample(source: sources.Source) -> np.ndarray:
  """Returns the indices of the sample, spread evenly."""
  count = min(len(source), SAMPLE)
  return np.linspace(0, len(source) - 1, count).astype(np.int64)


def _describe_sample(source: sources.Source) -> str:
  """Describes the sample's size in words."""
  if len(source) <= SAMPLE:
    return f'{len(source):,} records'
  return f'{SAMPLE:,} of the {len(source):,} records'


def _read_sample(
  source: sources.Source,
) -> Iterator[tuple[int, sources.Record]]:
  """Yields the sample's texts; `batches` reports unreadable records."""
  for index in map(int, _choose_sample(source)):
    try:
      record = source.read_texts(index)
    except ConfigError:
      continue
    yield index, record


def _has_image(source: sources.Source, index: int) -> bool:
  try:
    return bool(source.read(index)['image'])
  except ConfigError:
    return False


def _refuse_missing(
  split: str,
  source: sources.Source,
  preprocessor: preprocess.Preprocessor,
  needs: Needs,
) -> None:
  unmet = {name: set(modalities) for name, modalities in needs.items()}
  counts: collections.Counter = collections.Counter()
  for index, record in _read_sample(source):
    if not unmet:
      return
    modalities = {
      kind for kind, has in _HAS.items() if has(record, preprocessor)
    }
    # The image is read only where the record has the rest.
    complete = any(
      modalities >= needed - {'image'} for needed in unmet.values()
    )
    if complete and _has_image(source, index):
      modalities.add('image')
    counts.update(modalities)
    unmet = {
      name: needed for name, needed in unmet.items() if not modalities >= needed
    }
  for name, needed in unmet.items():
    required = ' and '.join(_WORDS[kind] for kind in _WORDS if kind in needed)
    parts = [f'{counts[kind]:,} have {_WORDS[kind]}' for kind in _HAS]
    if all(counts[kind] for kind in needed - {'image'}):
      parts.append('none of those with the rest has an image')
    fix = 'choose another objective'
    if len(needs) > 1:
      fix = f'leave it out with --config.objectives.{name}.weight=0'
    sample = _describe_sample(source)
    raise ConfigError(
      f'objectives.{name} needs records with {required}, but none of {sample} '
      f'of {split} has that ({", ".join(parts)}); {fix}, or use a data set '
      'that has it. For a data set that mmjax did not write, data.fields maps '
      "its features to mmjax's fields"
    )


def _count_texts(
  source: sources.Source, preprocessor: preprocess.Preprocessor
) -> dict[str, collections.Counter]:
  """Counts the sample's texts by kind."""
  out = {kind: collections.Counter() for kind in ('text', 'question', 'answer')}
  for _, record in _read_sample(source):
    if preprocessor.text_length:
      out['text'].update(preprocessor.list_evaluation_texts(record))
    for entry in record['questions']:
      if preprocessor.question_length:
        out['question'][entry['question']] += 1
      if preprocessor.answer_length:
        out['answer'].update(entry['answers'])
  return out


def _check_lengths(
  where: str,
  kind: str,
  counts: collections.Counter,
  preprocessor: preprocess.Preprocessor,
) -> list[str]:
  """Notes how many texts are cut to the length; refuses if all are."""
  if not counts:
    return []
  length = getattr(preprocessor, f'{kind}_length')
  count = preprocessor.tokenizer.count
  sizes = np.repeat(
    [count(text, as_input=kind == 'question') for text in counts],
    list(counts.values()),
  )
  cut = np.count_nonzero(sizes > length)
  words = {'text': 'captions', 'question': 'questions', 'answer': 'answers'}
  setting = f'data.{kind}_length={length} cuts'
  most = int(np.quantile(sizes, 0.95, method='higher'))
  takes = (
    f'{words[kind]} of {where}: they take {sizes.min()} to {sizes.max()} '
    f'tokens, 95% of them at most {most}'
  )
  if cut == len(sizes):
    raise ConfigError(
      f'{setting} all {cut:,} {takes}; set --config.data.{kind}_length={most} '
      'or so, or shorten the texts if the model takes no more tokens'
    )
  if cut < MIN_CUT_FRACTION * len(sizes):
    return []
  return [f'{setting} {cut / len(sizes):.0%} of {len(sizes):,} {takes}']


def _refuse_single(
  split: str,
  kind: str,
  counts: collections.Counter,
  varied: bool,
  needs: Needs,
) -> None:
  """Refuses texts that are all the same."""
  names = [name for name, modalities in needs.items() if kind in modalities]
  if len(counts) != 1 or counts.total() < 2 or varied or not names:
    return
  word = {'text': 'captions', 'answer': 'answers'}[kind]
  raise ConfigError(
    f'objectives.{names[0]}: all {counts.total():,} {word} of {split} are '
    f'{next(iter(counts))!r}, so there is nothing to learn; use data with '
    f'different {word}, or choose other records with data.where'
  )


def _count_answers(source: sources.Source) -> collections.Counter:
  try:
    return source.count_answers()
  except ConfigError:  # A record can't be read.
    read = (record for _, record in _read_sample(source))
    return sources.count_answers(read)


def _note_unknown_answers(
  known: collections.Counter, others: Mapping[str, sources.Source]
) -> list[str]:
  notes = []
  for split, source in others.items():
    answers = _count_answers(source)
    unknown = {a: n for a, n in answers.items() if a not in known}
    if unknown:
      commonest = sorted(unknown, key=lambda answer: (-unknown[answer], answer))
      notes.append(
        f'{sum(unknown.values()):,} of {answers.total():,} answers of {split} '
        'are not among those of training, such as '
        + ', '.join(map(repr, commonest[:3]))
      )
  return notes
