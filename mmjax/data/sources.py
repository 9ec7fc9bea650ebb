"""Sources: records by index, from prepared TFDS data sets or from memory.

A record is a dict of id, fields and metadata, see `mmjax.data.records`.
TensorFlow is not needed: TFDS reads ArrayRecord files without it, and images
stay encoded.
"""

import collections
import functools
import json
import operator
import os
import pathlib
from collections.abc import (
  Collection,
  Hashable,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from types import MappingProxyType
from typing import Any

import numpy as np

from mmjax.data import features, records, tfds_source
from mmjax.errors import ConfigError

Record = records.Record


class Source:
  """Records by index. Cheap to pickle, safe to read from several threads.

  Attributes:
    folder: folder of the prepared data set; None for records in memory.
    kinds: kind of each field that the records may have.
    complete: names of the fields that every record is known to have.
    classes: names of the classes of a field, or of 'metadata/NAME', where the
      data set has a list of them.
  """

  folder: pathlib.Path | None = None
  kinds: Mapping[str, str] = records.STANDARD
  complete: Collection[str] = frozenset()
  classes: Mapping[str, Sequence[str]] = MappingProxyType({})

  def __len__(self) -> int:
    raise NotImplementedError

  def read(self, index: int) -> Record:
    """Returns the record of an index in 0..len - 1."""
    raise NotImplementedError

  def read_small(self, index: int) -> Record:
    """Like `read`, perhaps without large fields; faster for records on disk."""
    return self.read(index)

  def __getitem__(self, index: int) -> Record:
    return self.read(self._check_index(index))

  def __iter__(self) -> Iterator[Record]:
    return (self.read(i) for i in range(len(self)))

  def iterate_small(self) -> Iterator[Record]:
    """Yields all records in order, perhaps without large fields."""
    return (self.read_small(i) for i in range(len(self)))

  def list_metadata(self) -> list[str]:
    """Names of the metadata fields that records have."""
    return sorted({n for row in self.iterate_small() for n in row['metadata']})

  def count_answers(self, field: str = 'questions') -> collections.Counter:
    """Counts how often each answer occurs in the records' questions."""
    return features.count_answers(
      record['fields'].get(field) for record in self.iterate_small()
    )

  def _check_index(self, index: int) -> int:
    index = operator.index(index)
    position = index + len(self) if index < 0 else index
    if not 0 <= position < len(self):
      raise IndexError(f'record {index} of a source of {len(self)} records')
    return position


class ListSource(Source):
  """Records in memory, for tests and small experiments."""

  def __init__(
    self,
    rows: Iterable[Record],
    folder: pathlib.Path | None = None,
    kinds: Mapping[str, str] = records.STANDARD,
  ):
    self._rows = list(rows)
    self.folder, self.kinds = folder, kinds

  @functools.cached_property
  def complete(self) -> Collection[str]:
    """Names of the fields that every record has."""
    return frozenset(
      name
      for name in self.kinds
      if all(row['fields'].get(name) is not None for row in self._rows)
    )

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, index: int) -> Record:
    return self._rows[index]


class PreparedSource(Source):
  """A split of a prepared TFDS data set."""

  def __init__(self, data: tfds_source.TfdsRecords):
    self._data = data
    self.folder = data.folder
    self.kinds, self.complete = data.schema.kinds, data.schema.complete
    self.classes = data.classes

  def __len__(self) -> int:
    return len(self._data)

  def read(self, index: int) -> Record:
    return self._data.read(index)

  def read_small(self, index: int) -> Record:
    return self._data.read(index, small_only=True)

  def count_answers(self, field: str = 'questions') -> collections.Counter:
    """Counts answers; for whole splits, reads the counts of the preparation."""
    path = self.folder / records.ANSWERS_FILE
    is_counted = field == 'questions' and path.exists()
    by_split = json.loads(path.read_text('utf-8')) if is_counted else {}
    splits = self._data.split.split('+')
    if not by_split.keys() >= set(splits):
      return super().count_answers(field)
    return sum(
      (collections.Counter(by_split[split]) for split in splits),
      collections.Counter(),
    )


class Subset(Source):
  """Some records of a source, in the order of `indices`."""

  def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
    self._source = source
    self._indices = np.asarray(indices, np.int64)
    self.folder, self.kinds = source.folder, source.kinds
    self.complete, self.classes = source.complete, source.classes

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, index: int) -> Record:
    return self._source.read(int(self._indices[index]))

  def read_small(self, index: int) -> Record:
    return self._source.read_small(int(self._indices[index]))


class QuestionsView(Source):
  """One record for each question of a source's records that has an answer.

  The ids are those of the source's records with the number of the question, as
  in 'scene-7#2'.
  """

  def __init__(self, source: Source, field: str = 'questions'):
    self._source = source
    self._field = field
    self.folder, self.kinds = source.folder, source.kinds
    self.complete, self.classes = source.complete, source.classes
    places = [
      (index, number)
      for index, record in enumerate(source.iterate_small())
      for number, entry in enumerate(record['fields'].get(field) or ())
      if entry['answers']
    ]
    places = np.asarray(places, np.int64).reshape(-1, 2)
    self._record, self._number = places[:, 0], places[:, 1]

  def __len__(self) -> int:
    return len(self._record)

  def read(self, index: int) -> Record:
    return self._select_question(
      self._source.read(int(self._record[index])), index
    )

  def read_small(self, index: int) -> Record:
    return self._select_question(
      self._source.read_small(int(self._record[index])), index
    )

  def _select_question(self, record: Record, index: int) -> Record:
    number = int(self._number[index])
    entry = record['fields'][self._field][number]
    return {
      **record,
      'id': f'{record["id"]}#{number}',
      'fields': record['fields'] | {self._field: [entry]},
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
    name: name of the data set: 'shapes', 'name/config', or with a version
      'name:1.0.0'.
    split: split in TFDS's notation: 'train', a part of it 'train[:10%]' or
      'train[100:200]', or a sum 'train+validation'.
    data_dir: folder of all data sets. By default
      `records.get_default_data_dir()`, then TFDS's default folder.
    where: conditions on metadata fields or `id`, each a value or several:
      {'style': ('noto', 'twemoji')} keeps the records with one of them. A field
      that is a list matches if it holds one of the values.
    fields: for data sets that mmjax didn't write, the feature that fills each
      field, such as {'image': 'image', 'captions': 'captions/text'}; question,
      answers and type together fill `questions`, and `id` the record's id. A
      kind may stand before it, {'age': 'number:years'}; without one it is that
      of the feature's class. Class labels become their names; other scalar
      features become metadata.

  Returns:
    A source; its `folder` is that of the prepared version.

  Raises:
    ConfigError: if the data set isn't prepared (the message has the command
      that prepares it), or a split, field or value doesn't exist (it lists
      those that do).
  """
  data = tfds_source.TfdsRecords.open(name, split, data_dir, fields)
  source: Source = PreparedSource(data)
  if where:
    source = select(source, where)
  return source


def select(source: Source, where: Mapping[str, Any]) -> Source:
  """Keeps the records that match all conditions, as in `open_source`.

  Raises:
    ConfigError: if no record has the field, or none is left.
  """
  where = {field: _as_set(targets) for field, targets in where.items()}
  tallies = {field: collections.Counter() for field in where}
  legal = {'id'}
  indices = []
  for i, record in enumerate(source.iterate_small()):
    legal.update(record['metadata'])
    keep = True
    for field, targets in where.items():
      values = _find_values(record, field)
      tallies[field].update(values)
      keep = keep and not targets.isdisjoint(values)
    if keep:
      indices.append(i)
  unknown = sorted(set(where) - legal)
  if unknown:
    raise ConfigError(
      f'no record has a field {", ".join(unknown)} to select by; there are '
      f'{", ".join(sorted(legal))}'
    )
  if not indices:
    summary = '; '.join(
      f'{field} has {_format_shortlist(counts)}'
      for field, counts in tallies.items()
    )
    conditions = {
      field: sorted(targets, key=str) for field, targets in where.items()
    }
    raise ConfigError(f'no record matches {conditions}; {summary}')
  return Subset(source, indices)


def view_questions(source: Source, field: str = 'questions') -> Source:
  """Makes a source with one record for each question that has an answer.

  Args:
    source: records with questions.
    field: field of the questions.

  Raises:
    ConfigError: if there are none.
  """
  view = QuestionsView(source, field)
  if len(view) == 0:
    raise ConfigError(
      f'none of {len(source)} records has a question with an answer; use a '
      'data set with both, or map its features with `fields`'
    )
  return view


def _as_set(targets: Any) -> set[Any]:
  is_collection = isinstance(targets, Iterable) and not isinstance(targets, str)
  return set(targets) if is_collection else {targets}


def _find_values(record: Record, field: str) -> list[Any]:
  value = record['metadata'].get(field)
  if value is None:
    return [record['id']] if field == 'id' else []
  values = value if isinstance(value, list) else [value]
  return [item if isinstance(item, Hashable) else str(item) for item in values]


def _format_shortlist(counts: collections.Counter, most: int = 20) -> str:
  ordered = sorted(counts, key=lambda value: (-counts[value], str(value)))
  names = [repr(value) for value in ordered[:most]]
  more = f' and {len(counts) - most} more' if len(counts) > most else ''
  return ', '.join(names) + more
