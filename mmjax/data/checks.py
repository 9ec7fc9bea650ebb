"""Data that can't train what is asked of it, refused before the first step.

What the objectives need, and how long the texts are, is judged by at most
`SAMPLE` records of a split, spread evenly over it.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mmjax.data import preprocess, sources
from mmjax.errors import ConfigError

SAMPLE = 2_000
# A smaller share of texts that are cut is not worth a word.
MANY = 0.05

# Objective -> the modalities that a record must have to take part in it.
Needs = Mapping[str, Sequence[str]]

_WORDS = {
  'image': 'an image',
  'text': 'a caption',
  'question': 'a question',
  'answer': 'an answer',
}
_HAS: dict[str, Callable[[sources.Record, preprocess.Preprocessor], bool]] = {
  'text': lambda record, made: (
    bool(record['captions'])
    or any(preprocess.field_values(record, name) for name in made.text_fields)
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
    train: what the training split is called in messages, and its records.
    others: the same for the splits to evaluate on.
    preprocessor: of the run.
    needs: by objective, 'image', 'text', 'question', 'answer'.

  Returns:
    What the user should know of data that can be trained on.

  Raises:
    ConfigError: if no record of a split has all that an objective needs, all
      answers or all captions are the same one, or all texts are cut.
  """
  for name, source in (train, *others.items()):
    _refuse_lacking(name, source, preprocessor, needs)
  name, source = train
  notes = []
  texts = _texts(source, preprocessor)
  for kind, counts in texts.items():
    notes += _cut(f'{_records(source)} of {name}', kind, counts, preprocessor)
  _refuse_single(
    name, 'text', texts['text'], len(preprocessor.text_fields) > 0, needs
  )
  if any('answer' in modalities for modalities in needs.values()):
    answers = _answer_counts(source)
    _refuse_single(name, 'answer', answers, False, needs)
    notes += _unknown_answers(answers, others)
  return tuple(notes)


def _sample(source: sources.Source) -> np.ndarray:
  """Indices, spread evenly."""
  count = min(len(source), SAMPLE)
  return np.linspace(0, len(source) - 1, count).astype(np.int64)


def _records(source: sources.Source) -> str:
  """What `_sample` chooses from, in words."""
  if len(source) <= SAMPLE:
    return f'{len(source):,} records'
  return f'{SAMPLE:,} of the {len(source):,} records'


def _read(source: sources.Source) -> Iterator[tuple[int, sources.Record]]:
  """The sample's texts; records that can't be read are for `batches`."""
  for index in map(int, _sample(source)):
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


def _refuse_lacking(
  split: str,
  source: sources.Source,
  preprocessor: preprocess.Preprocessor,
  needs: Needs,
) -> None:
  left = {name: set(modalities) for name, modalities in needs.items()}
  counts: collections.Counter = collections.Counter()
  for index, record in _read(source):
    if not left:
      return
    there = {kind for kind, has in _HAS.items() if has(record, preprocessor)}
    # An image is read only where the rest is there.
    complete = any(there >= needed - {'image'} for needed in left.values())
    if complete and _has_image(source, index):
      there.add('image')
    counts.update(there)
    left = {
      name: needed for name, needed in left.items() if not there >= needed
    }
  for name, needed in left.items():
    wanted = ' and '.join(_WORDS[kind] for kind in _WORDS if kind in needed)
    seen = [f'{counts[kind]:,} have {_WORDS[kind]}' for kind in _HAS]
    if all(counts[kind] for kind in needed - {'image'}):
      seen.append('none of those that would do has an image')
    way_out = 'choose another objective'
    if len(needs) > 1:
      way_out = f'leave it out with --config.objectives.{name}.weight=0'
    raise ConfigError(
      f'objectives.{name} needs records with {wanted}, but none of '
      f'{_records(source)} of {split} has that ({", ".join(seen)}); {way_out}, '
      'or use a data set that has it. In a data set of another maker, '
      'data.fields says which of its features hold it'
    )


def _texts(
  source: sources.Source, preprocessor: preprocess.Preprocessor
) -> dict[str, collections.Counter]:
  """Kind -> how often the sample has each text of it."""
  out = {kind: collections.Counter() for kind in ('text', 'question', 'answer')}
  made = preprocessor
  for _, record in _read(source):
    if made.text_length:
      out['text'].update(made.evaluation_texts(record))
    for entry in record['questions']:
      if made.question_length:
        out['question'][entry['question']] += 1
      if made.answer_length:
        out['answer'].update(entry['answers'])
  return out


def _cut(
  where: str,
  kind: str,
  counts: collections.Counter,
  preprocessor: preprocess.Preprocessor,
) -> list[str]:
  """Says how many texts are cut by their length, or refuses if all are."""
  if not counts:
    return []
  length = getattr(preprocessor, f'{kind}_length')
  count = preprocessor.tokenizer.count
  sizes = np.repeat(
    [count(text, read=kind == 'question') for text in counts],
    list(counts.values()),
  )
  cut = np.count_nonzero(sizes > length)
  words = {'text': 'captions', 'question': 'questions', 'answer': 'answers'}
  setting = f'data.{kind}_length={length} cuts'
  most = int(np.quantile(sizes, 0.95, method='higher'))
  takes = (
    f'{words[kind]} of {where}: they take {sizes.min()} to {sizes.max()} '
    f'tokens, 95 in 100 of them at most {most}'
  )
  if cut == len(sizes):
    raise ConfigError(
      f'{setting} all {cut:,} {takes}; set data.{kind}_length to {most} or so'
    )
  if cut < MANY * len(sizes):
    return []
  return [f'{setting} {cut / len(sizes):.0%} of {len(sizes):,} {takes}']


def _refuse_single(
  split: str,
  kind: str,
  counts: collections.Counter,
  varied: bool,
  needs: Needs,
) -> None:
  """Refuses texts of which there is only one, however often."""
  names = [name for name, modalities in needs.items() if kind in modalities]
  if len(counts) != 1 or counts.total() < 2 or varied or not names:
    return
  word = {'text': 'captions', 'answer': 'answers'}[kind]
  raise ConfigError(
    f'objectives.{names[0]}: all {counts.total():,} {word} of {split} are '
    f'{next(iter(counts))!r}, so that there is nothing to learn; use data with '
    f'different {word}, or choose other records with data.where'
  )


def _answer_counts(source: sources.Source) -> collections.Counter:
  try:
    return source.answer_counts()
  except ConfigError:  # Of a record that can't be read.
    read = (record for _, record in _read(source))
    return sources.count_answers(read)


def _unknown_answers(
  known: collections.Counter, others: Mapping[str, sources.Source]
) -> list[str]:
  notes = []
  for split, source in others.items():
    answers = _answer_counts(source)
    unknown = {a: n for a, n in answers.items() if a not in known}
    if unknown:
      commonest = sorted(unknown, key=lambda answer: (-unknown[answer], answer))
      notes.append(
        f'{sum(unknown.values()):,} of {answers.total():,} answers of {split} '
        'are not among those of training, such as '
        + ', '.join(map(repr, commonest[:3]))
      )
  return notes
