"""Refuses, before the first step, data that a task can't learn from.

What the tasks need, and how long the texts are, is checked on a sample of a
split, spread evenly over it.
"""

import collections
import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from mmjax.data import (
  check_classes,
  check_samples,
  features,
  preprocess,
  sources,
)
from mmjax.errors import ConfigError

# A smaller fraction of texts that are cut is not reported.
MIN_CUT_FRACTION = 0.05
# Where reading waits for a network, more processes than cores help.
_WORKERS_A_CORE = 8

# Task -> keys of the arrays that it needs of an example.
Needs = Mapping[str, Sequence[str]]
# A task, and keys of arrays with which an example is enough for it.
Choice = tuple[str, tuple[str, ...]]

# Words for the arrays of images with captions and questions.
_WORDS = {
  'image': 'an image',
  'text': 'a caption',
  'question': 'a question',
  'answer': 'an answer',
  'label': 'an answer',
}
_PLURALS = {'text': 'captions', 'question': 'questions', 'answer': 'answers'}


def check_workers(number: int) -> None:
  """Refuses more reading processes than this machine can start.

  Args:
    number: `data.num_workers`.

  Raises:
    ConfigError: if there are more than 8 a core.
  """
  cores = os.cpu_count() or 1
  if number > _WORKERS_A_CORE * cores:
    raise ConfigError(
      f'data.num_workers={number} is more processes than this machine, which '
      f'has {cores} cores, can keep busy; use at most {_WORKERS_A_CORE * cores}'
    )


@dataclasses.dataclass(frozen=True)
class Checks:
  """Checks of the data of one run.

  Attributes:
    preprocessor: the run's preprocessor.
    needs: arrays by task.
    settings: name of the setting of an array's length, by key, where that is
      not the feature's own.
    alternatives: by task, several sets of keys of which an example needs one;
      by default that of `needs`.
    on_cut: 'raise' to refuse a length that cuts all texts, or 'note'.
  """

  preprocessor: preprocess.Preprocessor
  needs: Needs
  settings: Mapping[str, str]
  alternatives: Mapping[str, Sequence[Sequence[str]]] = dataclasses.field(
    default_factory=dict
  )
  on_cut: str = 'raise'

  def list_choices(self, task: str) -> list[Choice]:
    """Lists the sets of arrays of which an example needs one for a task."""
    chosen = self.alternatives.get(task) or (self.needs[task],)
    return [(task, tuple(keys)) for keys in chosen]

  def run(
    self,
    train: tuple[str, sources.Source],
    others: Mapping[str, sources.Source],
    lacking: Collection[str] = (),
  ) -> tuple[str, ...]:
    """Refuses data from which a task learns nothing.

    Args:
      train: name of the training split in messages, and its records.
      others: records of the evaluation splits, by their names in messages.
      lacking: names of the splits that may lack the fields of tasks.

    Returns:
      Notes for the user about data that can be trained on.

    Raises:
      ConfigError: if no record of a split has all that a task needs, if all
        answers or all texts are the same, or if all texts are cut.
    """
    for name, source in (train, *others.items()):
      if name not in lacking:
        self.refuse(self.find_lacking(name, source, every=False))
    name, source = train
    notes = []
    texts = self._count_texts(source)
    where = f'{check_samples.describe(source)} of {name}'
    for (key, as_input), counts in texts.items():
      notes += self._check_lengths(where, key, counts, as_input=as_input)
    for (key, _), counts in texts.items():
      feature = self.preprocessor.find(key)
      if isinstance(feature, features.Text) and not feature.metadata:
        self._refuse_single(name, key, counts)
    for feature in self.preprocessor.features.values():
      if isinstance(feature, features.Questions):
        notes += self._check_answers(feature, name, source, others)
      if isinstance(feature, features.Category):
        notes += check_classes.note_labelled(feature, name, source)
        for other, rows in ((name, source), *others.items()):
          notes += check_classes.note_unknown_classes(feature, other, rows)
    return tuple(notes)

  def find_lacking(
    self, split: str, source: sources.Source, *, every: bool = True
  ) -> dict[Choice, str]:
    """Finds what tasks need and no record of the sample has.

    Args:
      split: name of the split in messages.
      source: its records.
      every: whether to find every choice of a task that is missing; else only
        those of the tasks all of whose choices are.

    Returns:
      What is missing, by choice, in a sentence.
    """
    unmet = {
      choice: set(choice[1])
      for task in self.needs
      for choice in self.list_choices(task)
    }
    counts: collections.Counter = collections.Counter()
    wanted = {
      key: self.preprocessor.find(key) for key in set().union(*unmet.values())
    }
    small = {k: f for k, f in wanted.items() if not f.is_large}
    large = {k: f for k, f in wanted.items() if f.is_large}
    for index, record in check_samples.read(source):
      if not unmet:
        return {}
      keys = {key for key, feature in small.items() if feature.has(record, key)}
      # Large fields are read only where the record has the rest.
      if large and any(
        keys >= needed - set(large) for needed in unmet.values()
      ):
        whole = check_samples.read_whole(source, index)
        keys |= {k for k, f in large.items() if whole and f.has(whole, k)}
      counts.update(keys)
      met = {choice for choice, needed in unmet.items() if keys >= needed}
      tasks = set() if every else {task for task, _ in met}
      unmet = {
        choice: needed
        for choice, needed in unmet.items()
        if choice not in met and choice[0] not in tasks
      }
    return {
      choice: self._explain_missing(choice[0], needed, counts, split, source)
      for choice, needed in unmet.items()
    }

  def refuse(self, lacking: Mapping[Choice, str]) -> None:
    """Raises ConfigError about the first of the tasks that lack fields."""
    for (name, _), reason in lacking.items():
      fix = 'choose another task'
      if len(self.needs) > 1:
        fix = f'leave it out with --config.tasks.{name}.weight=0'
      raise ConfigError(
        f'{reason}; {fix}, or use a data set that has it. For a data set that '
        "mmjax did not write, data.fields maps its features to mmjax's fields"
      )

  def _explain_missing(
    self,
    name: str,
    needed: set[str],
    counts: collections.Counter,
    split: str,
    source: sources.Source,
  ) -> str:
    ordered = sorted(needed, key=[*_WORDS, *sorted(needed)].index)
    words = list(dict.fromkeys(self._describe(key) for key in ordered))
    parts = [
      f'{counts[key]:,} have {self._describe(key)}'
      for key in ordered
      if not self.preprocessor.find(key).is_large
    ]
    large = [key for key in ordered if self.preprocessor.find(key).is_large]
    if all(counts[key] for key in needed - set(large)):
      parts += [
        f'none of those with the rest has {self._describe(key)}'
        for key in large
        if not counts[key]
      ]
    parts += _list_languages(
      source, [self.preprocessor.find(key) for key in ordered]
    )
    return (
      f'tasks.{name} needs records with {" and ".join(words)}, but none of '
      f'{check_samples.describe(source)} of {split} has that '
      f'({", ".join(dict.fromkeys(parts))})'
    )

  def _describe(self, key: str) -> str:
    feature = self.preprocessor.find(key)
    if key in _WORDS and feature.field_name in (
      'image',
      'captions',
      'questions',
    ):
      return _WORDS[key]
    return f'{feature.word} {feature.field_name!r}'

  def _count_texts(
    self, source: sources.Source
  ) -> dict[tuple[str, bool], collections.Counter]:
    """Counts the sample's texts by key and whether they are only read."""
    out: dict[tuple[str, bool], collections.Counter] = {}
    for _, record in check_samples.read(source):
      for feature in self.preprocessor.features.values():
        for key, text, as_input in feature.measure(record):
          counts = out.setdefault((key, as_input), collections.Counter())
          counts[text] += 1
    return out

  def _check_lengths(
    self,
    where: str,
    key: str,
    counts: collections.Counter,
    *,
    as_input: bool,
  ) -> list[str]:
    """Notes how many texts are cut to the length; refuses if all are."""
    count = self.preprocessor.tokenizer.count
    feature = self.preprocessor.find(key)
    own = f'data.features.{feature.name}.{feature.name_length(key)}'
    setting = self.settings.get(key, own)
    length = len(feature.make_absent()[key])
    sizes = np.repeat(
      [count(text, as_input=as_input) for text in counts],
      list(counts.values()),
    )
    cut = np.count_nonzero(sizes > length)
    most = int(np.quantile(sizes, 0.95, method='higher'))
    takes = (
      f'{_PLURALS.get(key, f"texts {key!r}")} of {where}: they take '
      f'{sizes.min()} to {sizes.max()} tokens, 95% of them at most {most}'
    )
    if cut == len(sizes) and self.on_cut == 'raise':
      raise ConfigError(
        f'{setting}={length} cuts all {cut:,} {takes}; set '
        f'--config.{setting}={most} or so; if the model takes no more tokens, '
        'shorten the texts, or train on what is left of each with '
        "--config.data.on_cut='note'"
      )
    if cut < MIN_CUT_FRACTION * len(sizes):
      return []
    texts = _PLURALS.get(key, f'texts {key!r}')
    return [
      f'{cut / len(sizes):.0%} of {len(sizes):,} {texts} are longer than '
      f'{setting}={length} tokens, so that their ends are cut off: they have '
      f'up to {sizes.max()} tokens, and {setting}={most} holds 95% of them, if '
      f'the model reads as many ({where})'
    ]

  def _refuse_single(
    self, split: str, key: str, counts: collections.Counter
  ) -> None:
    """Refuses texts that are all the same."""
    names = [name for name, keys in self.needs.items() if key in keys]
    if len(counts) != 1 or counts.total() < 2 or not names:
      return
    word = _PLURALS.get(key, f'texts {key!r}')
    raise ConfigError(
      f'tasks.{names[0]}: all {counts.total():,} {word} of {split} are '
      f'{next(iter(counts))!r}, so there is nothing to learn; use data with '
      f'different {word}, or choose other records with data.where'
    )

  def _check_answers(
    self,
    feature: features.Questions,
    split: str,
    source: sources.Source,
    others: Mapping[str, sources.Source],
  ) -> list[str]:
    keys = {f'{feature.prefix}{name}' for name in ('answer', 'label')}
    if not any(keys & set(needed) for needed in self.needs.values()):
      return []
    known = _count_answers(source, feature)
    for key in sorted(keys):
      if any(key in needed for needed in self.needs.values()):
        self._refuse_single_answer(split, key, known)
    notes = []
    for other, records in others.items():
      answers = _count_answers(records, feature)
      unknown = {a: n for a, n in answers.items() if a not in known}
      if unknown:
        ordered = sorted(unknown, key=lambda a: (-unknown[a], a))
        notes.append(
          f'{sum(unknown.values()):,} of {answers.total():,} answers of '
          f'{other} are not among those of training, such as '
          + ', '.join(map(repr, ordered[:3]))
        )
    return notes

  def _refuse_single_answer(
    self, split: str, key: str, counts: collections.Counter
  ) -> None:
    names = [name for name, keys in self.needs.items() if key in keys]
    if len(counts) == 1 and counts.total() > 1:
      raise ConfigError(
        f'tasks.{names[0]}: all {counts.total():,} answers of {split} are '
        f'{next(iter(counts))!r}, so there is nothing to learn; use data with '
        'different answers, or choose other records with data.where'
      )


def _list_languages(
  source: sources.Source, wanted: Sequence[features.Feature]
) -> Iterator[str]:
  """Lists the texts' languages where none is the wanted one."""
  for feature in wanted:
    language = getattr(feature, 'language', '')
    if not language:
      continue
    present: collections.Counter = collections.Counter()
    for _, record in check_samples.read(source):
      value = feature.get(record)
      present.update(value.keys() if isinstance(value, dict) else ())
    if present and language not in present:
      yield (
        f'data.features.{feature.name}.language={language!r}, but its texts '
        f'are in {", ".join(sorted(present))}'
      )


def _count_answers(
  source: sources.Source, feature: features.Questions
) -> collections.Counter:
  try:
    return source.count_answers(feature.field_name)
  except ConfigError:  # A record can't be read.
    return features.count_answers(
      feature.get(record) for _, record in check_samples.read(source)
    )
