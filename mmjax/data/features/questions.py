"""Fields of questions with their answers."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, tokenizers
from mmjax.data.features import base, json_faults, text
from mmjax.errors import ConfigError

Chosen = list[tuple[Mapping[str, Any], str | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions(base.Feature):
  """Questions about a record, each with its answers.

  A value is a list of {'question': str, 'answers': list of str, 'type': str}.
  Training draws `number` of the questions and one answer to each; evaluation
  takes the first question and its commonest answer. The arrays are

    question [Q] int32, question_mask [Q] bool     length
    answer [A] int32, answer_mask [A] bool         answer_length
    label [] int32, -1 if not in `answers`         has_label

  In training with `number` n above 1 they have a leading axis [n]; where a
  record has fewer questions, the rest are masked. The keys of a feature whose
  name is not 'questions' begin with its name and '_'.

  Attributes:
    length: Q, largest number of tokens of a question; 0 for no questions.
    answer_length: A, largest number of tokens of an answer; 0 for none.
    has_label: whether there is a label, the answer's index in `answers`.
    answers: the answer vocabulary; None for that of the training records.
    number: n, number of questions about a record in training.
    tokenizer: tokenizer of the data set.
  """

  kind: ClassVar[str] = 'questions'
  field_kinds: ClassVar[tuple[str, ...]] = ('questions',)
  word: ClassVar[str] = 'a question'

  length: int = 0
  answer_length: int = 0
  has_label: bool = False
  answers: Sequence | None = None
  number: int = 1
  tokenizer: Any = None

  def __post_init__(self):
    super().__post_init__()
    for setting, least in (('length', 0), ('answer_length', 0), ('number', 1)):
      if getattr(self, setting) < least:
        self.refuse(setting, f'is not legal: at least {least}')
    if not (self.length or self.answer_length or self.has_label):
      self.refuse(
        'length', 'makes no array, and neither do answer_length and has_label'
      )
    for answer in self.answers or ():
      if not isinstance(answer, str):
        self.refuse('answers', f'has {answer!r}, which is not a text')
    labels = {answer: i for i, answer in enumerate(self.answers or ())}
    if len(labels) < len(self.answers or ()):
      self.refuse('answers', 'names an answer twice')
    object.__setattr__(self, '_labels', labels)

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    if not isinstance(value, list):
      return f'should be list, not {type(value).__name__}'
    for entry in value:
      if fault := _explain_entry_fault(entry):
        return fault
    return json_faults.explain_json_fault(value)

  def list_keys(self) -> tuple[str, ...]:
    keys = []
    if self.length:
      keys += ['question', 'question_mask']
    if self.answer_length:
      keys += ['answer', 'answer_mask']
    if self.has_label:
      keys += ['label']
    return tuple(self.prefix + key for key in keys)

  def fit(self, source: Any) -> 'Questions':
    """Learns the answer vocabulary: the commonest first."""
    if self.is_fitted:
      return self
    counts = source.count_answers(self.field_name)
    return dataclasses.replace(self, answers=order_answers(counts))

  @property
  def is_fitted(self) -> bool:
    return not self.has_label or self.answers is not None

  @property
  def uses_tokenizer(self) -> bool:
    return bool(self.length or self.answer_length)

  @property
  def max_new_tokens(self) -> int:
    """Largest number of tokens of a written answer, after <bos>."""
    return self.answer_length - 1

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Questions':
    return dataclasses.replace(self, tokenizer=tokenizer)

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    entries = self.get(record) or ()
    if key == f'{self.prefix}question':
      return bool(entries)
    return any(entry['answers'] for entry in entries)

  def measure(
    self, record: Mapping[str, Any]
  ) -> Iterable[tuple[str, str, bool]]:
    for entry in self.get(record) or ():
      if self.length:
        yield f'{self.prefix}question', entry['question'], True
      if self.answer_length:
        for answer in entry['answers']:
          yield f'{self.prefix}answer', answer, False

  def name_length(self, key: str) -> str:
    return 'length' if key == f'{self.prefix}question' else 'answer_length'

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> Chosen | None:
    """Returns different questions, at most `number`, each with an answer."""
    entries = self.get(record) or []
    if rng is None:
      # The commonest answer; of equally common ones the first.
      chosen = [(e, _find_commonest(e['answers'])) for e in entries[:1]]
      return chosen or None
    if self.number > 1:
      entries = [
        entries[i] for i in rng.permutation(len(entries))[: self.number]
      ]
    elif entries:
      entries = [base.choose_one(entries, rng)]
    return [(e, base.choose_one(e['answers'], rng)) for e in entries] or None

  def list_texts(self, chosen: Chosen) -> Iterable[str]:
    for entry, _ in chosen:
      yield entry['question']
      yield from entry['answers']

  def make_arrays(
    self, chosen: Chosen, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del flips
    return self._stack(chosen, 1 if rng is None else self.number)

  def make_absent(self, rng: np.random.Generator | None = None):
    return self._stack([], 1 if rng is None else self.number)

  def prepare(self, value: Any) -> base.Example:
    """Makes the arrays of a question alone."""
    if not self.length:
      raise ConfigError(
        f'{self.name} makes no arrays of questions: '
        f'data.features.{self.name}.length is 0'
      )
    if not isinstance(value, str) or not value.strip():
      raise ConfigError(f'{self.name}: a question is a text, not {value!r:.80}')
    return self._encode('question', value, self.length, as_input=True)

  @property
  def prefix(self) -> str:
    """What the keys of the arrays begin with."""
    return '' if self.name == 'questions' else f'{self.name}_'

  @classmethod
  def list_all_texts(cls, value: Sequence[Mapping]) -> Iterable[str]:
    for entry in value:
      yield entry['question']
      yield from entry['answers']

  @classmethod
  def render(cls, value: Sequence[Mapping]) -> contact_sheet.Cell:
    lines = []
    for entry in value[:2]:
      lines.append((entry['question'], contact_sheet.QUIET))
      lines.append(', '.join(entry['answers']))
    return None, lines

  def _stack(self, chosen: Chosen, number: int) -> base.Example:
    rows: list[tuple[Any, Any]] = [*chosen]
    rows += [(None, None)] * (number - len(rows))
    examples = [self._make_row(entry, answer) for entry, answer in rows]
    if number == 1:
      return examples[0]
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}

  def _make_row(
    self, entry: Mapping[str, Any] | None, answer: str | None
  ) -> base.Example:
    example = {}
    question = None if entry is None else entry['question']
    if self.length:
      example |= self._encode('question', question, self.length, as_input=True)
    if self.answer_length:
      example |= self._encode('answer', answer, self.answer_length)
    if self.has_label:
      example[f'{self.prefix}label'] = np.int32(self._labels.get(answer, -1))
    return example

  def _encode(
    self, key: str, words: str | None, length: int, *, as_input: bool = False
  ) -> base.Example:
    key = self.prefix + key
    if words is None:
      return text.make_blank(key, length)
    ids, mask = self.tokenizer.encode(words, length, as_input=as_input)
    return {key: ids, f'{key}_mask': mask}


def _explain_entry_fault(entry: Any) -> str:
  if not isinstance(entry, dict):
    return f'should hold questions with answers, not {entry!r:.80}'
  if entry.keys() != {'question', 'answers', 'type'}:
    return (
      f'has an entry with {sorted(map(str, entry))}, not question, answers and '
      'type'
    )
  if not isinstance(entry['answers'], list):
    return f'has answers that are not a list: {entry["answers"]!r:.80}'
  for part in (entry['question'], entry['type'], *entry['answers']):
    if not isinstance(part, str):
      return f'has an entry with {part!r:.80}, which is not a text'
  return ''


def count_answers(values: Iterable[Any]) -> collections.Counter:
  """Counts how often each answer occurs in the values of a field."""
  return collections.Counter(
    answer
    for value in values
    for entry in value or ()
    for answer in entry['answers']
  )


def order_answers(counts: Mapping[str, int]) -> tuple[str, ...]:
  """The answers, the commonest first; equally common ones by alphabet."""
  return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer)))


def _find_commonest(answers: Sequence[str]) -> str | None:
  return max(answers, key=answers.count) if answers else None
