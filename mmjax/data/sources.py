"""Sources: records by index, from prepared TFDS data sets or from memory.

A record is a dict of id, image, captions, questions and metadata; see
`mmjax.data.records`. TensorFlow is not needed: TFDS reads ArrayRecord files
without it, and images stay encoded.
"""

import collections
import json
import operator
import os
import pathlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import records, tfds_source
from mmjax.errors import ConfigError

Record = records.Record


class Source:
  """Records by index. Cheap to pickle, safe to read from several threads.

  Attributes:
    folder: where the prepared data set lies; None for records in memory.
  """

  folder: pathlib.Path | None = None

  def __len__(self) -> int:
    raise NotImplementedError

  def read(self, index: int) -> Record:
    """Returns the record of an index in 0..len - 1."""
    raise NotImplementedError

  def read_texts(self, index: int) -> Record:
    """Like `read` with an empty image; faster where it lies on disk."""
    return {**self.read(index), 'image': b''}

  def __getitem__(self, index: int) -> Record:
    return self.read(self._position(index))

  def __iter__(self) -> Iterator[Record]:
    return (self.read(i) for i in range(len(self)))

  def texts(self) -> Iterator[Record]:
    """All records, in order, with empty images."""
    return (self.read_texts(i) for i in range(len(self)))

  def answer_counts(self) -> collections.Counter:
    """How often each answer is given to the records' questions."""
    return count_answers(self.texts())

  def _position(self, index: int) -> int:
    index = operator.index(index)
    position = index + len(self) if index < 0 else index
    if not 0 <= position < len(self):
      raise IndexError(f'record {index} of a source of {len(self)} records')
    return position


class ListSource(Source):
  """Records in memory, for tests and small experiments."""

  def __init__(
    self, rows: Iterable[Record], folder: pathlib.Path | None = None
  ):
    self._rows = list(rows)
    self.folder = folder

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, index: int) -> Record:
    return self._rows[index]


class PreparedSource(Source):
  """A split of a prepared TFDS data set."""

  def __init__(self, data: tfds_source.TfdsRecords):
    self._data = data
    self.folder = data.folder

  def __len__(self) -> int:
    return len(self._data)

  def read(self, index: int) -> Record:
    return self._data.read(index)

  def read_texts(self, index: int) -> Record:
    return self._data.read(index, texts_only=True)

  def answer_counts(self) -> collections.Counter:
    """Of whole splits, as they were counted when the set was prepared."""
    path = self.folder / records.ANSWERS_FILE
    by_split = json.loads(path.read_text('utf-8')) if path.exists() else {}
    splits = self._data.split.split('+')
    if not by_split.keys() >= set(splits):
      return super().answer_counts()
    return sum(
      (collections.Counter(by_split[split]) for split in splits),
      collections.Counter(),
    )


class Subset(Source):
  """Some records of a source, in the order of `indices`."""

  def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
    self._source = source
    self._indices = np.asarray(indices, np.int64)
    self.folder = source.folder

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, index: int) -> Record:
    return self._source.read(int(self._indices[index]))

  def read_texts(self, index: int) -> Record:
    return self._source.read_texts(int(self._indices[index]))


class QuestionsView(Source):
  """One record for each question of a source's records.

  Its ids are the record's with the question's number: 'scene-7#2'.
  """

  def __init__(self, source: Source):
    self._source = source
    self.folder = source.folder
    counts = [len(record['questions']) for record in source.texts()]
    self._record = np.repeat(np.arange(len(counts)), counts)
    self._number = np.concatenate(
      [np.arange(count) for count in counts] or [np.zeros(0, np.int64)]
    )

  def __len__(self) -> int:
    return len(self._record)

  def read(self, index: int) -> Record:
    return self._one(self._source.read(int(self._record[index])), index)

  def read_texts(self, index: int) -> Record:
    return self._one(self._source.read_texts(int(self._record[index])), index)

  def _one(self, record: Record, index: int) -> Record:
    number = int(self._number[index])
    return {
      **record,
      'id': f'{record["id"]}#{number}',
      'questions': [record['questions'][number]],
    }


def open_source(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike | None = None,
  where: Mapping[str, Any] | None = None,
  fields: Mapping[str, str] | None = None,
) -> Source:
  """Opens a prepared data set.

  Args:
    name: 'shapes', 'name/config', or with a version 'name:1.0.0'.
    split: 'train', a part of it 'train[:10%]' or 'train[100:200]', or a sum
      'train+validation', as TFDS writes them.
    data_dir: where data sets live. By default `records.default_data_dir()`,
      then TFDS's own folder.
    where: keeps the records whose field, of the metadata or `id`, has the
      value or one of the values given: {'style': ('noto', 'twemoji')}. A field
      that is a list matches if it holds one of them.
    fields: for data sets that mmjax didn't write, which of their features
      fills which of our fields: id, image, captions, question, answers, type.
      {'image': 'image', 'captions': 'captions/text'}. Class labels become
      their names; other scalar features go into metadata.

  Returns:
    A source; its `folder` is that of the prepared version.

  Raises:
    ConfigError: if it isn't prepared, with the command that prepares it.
    ConfigError: for splits, fields or values that don't exist, naming those
      that do.
  """
  data = tfds_source.TfdsRecords.open(name, split, data_dir, fields)
  source: Source = PreparedSource(data)
  if where:
    source = select(source, where)
  return source


def select(source: Source, where: Mapping[str, Any]) -> Source:
  """Keeps the records that match all conditions; see `open_source`.

  Raises:
    ConfigError: if no record has the field, or none is left.
  """
  where = {field: _as_set(wanted) for field, wanted in where.items()}
  seen = {field: collections.Counter() for field in where}
  legal = {'id'}
  kept = []
  for i, record in enumerate(source.texts()):
    legal.update(record['metadata'])
    keep = True
    for field, wanted in where.items():
      values = _values(record, field)
      seen[field].update(values)
      keep = keep and not wanted.isdisjoint(values)
    if keep:
      kept.append(i)
  unknown = sorted(set(where) - legal)
  if unknown:
    raise ConfigError(
      f'no record has a field {", ".join(unknown)} to select by; there are '
      f'{", ".join(sorted(legal))}'
    )
  if not kept:
    present = '; '.join(
      f'{field} has {_shortlist(counts)}' for field, counts in seen.items()
    )
    given = {field: sorted(wanted, key=str) for field, wanted in where.items()}
    raise ConfigError(f'no record matches {given}; {present}')
  return Subset(source, kept)


def questions_view(source: Source) -> Source:
  """One record for each (record, question); each has exactly one question.

  Raises:
    ConfigError: if there are no questions.
  """
  view = QuestionsView(source)
  if len(view) == 0:
    raise ConfigError(
      f'none of {len(source)} records has a question; use a data set with '
      'questions, or map its features with `fields`'
    )
  return view


def count_answers(rows: Iterable[Record]) -> collections.Counter:
  """How often each answer is given to the records' questions."""
  return collections.Counter(
    answer
    for record in rows
    for entry in record['questions']
    for answer in entry['answers']
  )


def answer_vocabulary(
  source: Source, most: int | None = None
) -> tuple[str, ...]:
  """The answers of a source's questions, commonest first.

  Args:
    source: usually the training split.
    most: only so many; None for all.

  Returns:
    Answers without repetition; equally common ones in alphabetical order.
  """
  counts = source.answer_counts()
  ordered = sorted(counts, key=lambda answer: (-counts[answer], answer))
  return tuple(ordered[:most])


def _as_set(wanted: Any) -> set[Any]:
  several = isinstance(wanted, Iterable) and not isinstance(wanted, str)
  return set(wanted) if several else {wanted}


def _values(record: Record, field: str) -> list[Any]:
  value = record['metadata'].get(field)
  if value is None:
    return [record['id']] if field == 'id' else []
  values = value if isinstance(value, list) else [value]
  return [item if isinstance(item, Hashable) else str(item) for item in values]


def _shortlist(counts: collections.Counter, most: int = 20) -> str:
  ordered = sorted(counts, key=lambda value: (-counts[value], str(value)))
  names = [repr(value) for value in ordered[:most]]
  more = f' and {len(counts) - most} more' if len(counts) > most else ''
  return ', '.join(names) + more
