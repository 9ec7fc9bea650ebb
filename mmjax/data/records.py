"""The record that every prepared data set holds.

In memory a record is a plain dict:

  id         str, unique in the data set
  fields     dict of the fields that it has, each of a kind of
             `mmjax.data.features.STORED`
  metadata   dict of further values, anything JSON can say

`FIELDS_FILE` beside a data set names its fields, their kinds, and whether all
records have them. On disk a record is a TFDS example with a feature for each
field, stored as its kind says, and the id and the metadata (a JSON text: TFDS
needs TensorFlow to write nested lists).
"""

import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from etils import epy

from mmjax.data import features
from mmjax.errors import ConfigError, choose

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds

Record = dict[str, Any]

# Fields of images with captions or questions.
STANDARD = {'image': 'image', 'captions': 'text', 'questions': 'questions'}
RESERVED = ('id', 'metadata', 'index', 'mask', 'replaced', 'source_index')

# Files beside the records of a data set that mmjax wrote.
FIELDS_FILE = 'fields.json'
TOKENIZER_FILE = 'tokenizer.json'
ANSWERS_FILE = 'answers.json'  # Counts of the answers by split.


class Schema:
  """The fields of a data set's records, and their form on disk.

  Attributes:
    kinds: kind of each field, by name.
    complete: names of the fields that every record is known to have.
  """

  def __init__(
    self,
    kinds: Mapping[str, str] = STANDARD,
    complete: Collection[str] = (),
  ):
    """Sets the fields.

    Args:
      kinds: kind of each field, by name.
      complete: names of the fields that every record has.

    Raises:
      ConfigError: if a kind is unknown, or a name is reserved.
    """
    for name, kind in kinds.items():
      choose(kind, features.STORED, f'the kind of field {name!r}')
      if name in RESERVED or not name.isidentifier():
        raise ConfigError(
          f'a field cannot have the name {name!r}; use letters, digits and _, '
          f'and none of {", ".join(RESERVED)}'
        )
    self.kinds, self.complete = dict(kinds), frozenset(complete)
    self._classes = {name: features.STORED[k] for name, k in kinds.items()}

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Schema) and (
      (self.kinds, self.complete) == (other.kinds, other.complete)
    )

  __hash__ = None

  def make_tfds_features(
    self, *, large: bool = True
  ) -> 'tfds.features.FeaturesDict':
    """Makes the features of a TFDS data set.

    Args:
      large: whether to include fields of large values.
    """
    fields = {
      name: cls.make_storage()
      for name, cls in self._classes.items()
      if large or not cls.is_large
    }
    return tfds.features.FeaturesDict(
      {
        'id': tfds.features.Text(),
        'metadata': tfds.features.Text(),
        **fields,
      }
    )

  def make_decoders(self) -> dict[str, Any]:
    """Makes the decoders that keep images encoded."""
    return {
      name: tfds.decode.SkipDecoding()
      for name, kind in self.kinds.items()
      if kind == 'image'
    }

  def encode(self, record: Record) -> dict[str, Any]:
    """Converts a record to the example that TFDS writes.

    Raises:
      ConfigError: if a field is unknown or of the wrong type.
    """
    self._check_names(record)
    fields = record['fields']
    return {
      'id': record['id'],
      'metadata': json.dumps(record['metadata'], ensure_ascii=False),
      **{
        name: cls.pack(fields.get(name)) for name, cls in self._classes.items()
      },
    }

  def decode(self, raw: Mapping[str, Any]) -> Record:
    """Converts an example that TFDS read to a record."""
    unpacked = {
      name: cls.unpack(raw[name])
      for name, cls in self._classes.items()
      if name in raw
    }
    return {
      'id': raw['id'].decode(),
      'fields': {k: v for k, v in unpacked.items() if v is not None},
      'metadata': json.loads(raw['metadata']),
    }

  def check(self, record: Record) -> None:
    """Refuses a record that can't be written.

    Raises:
      ConfigError: if a field is unknown, of the wrong type, or holds a value
        that JSON or UTF-8 can't represent.
    """
    self._check_names(record)
    faults = [
      (name, self._classes[name].explain_fault(value))
      for name, value in record['fields'].items()
    ]
    for name, value in (('id', record['id']), *record['metadata'].items()):
      faults.append((name, features.explain_json_fault(name)))
      faults.append((name, features.explain_json_fault(value)))
    for name, fault in faults:
      if fault:
        raise ConfigError(f'field {name!a:.80} {fault}')

  def _check_names(self, record: Record) -> None:
    if set(record) != {'id', 'fields', 'metadata'}:
      raise ConfigError(
        f'a record has id, fields and metadata, not {", ".join(record)}'
      )
    unknown = sorted(set(record['fields']) - set(self.kinds))
    if unknown:
      raise ConfigError(
        f'record {record["id"]!r} has a field {unknown[0]!r}, but the data set '
        f'has {", ".join(self.kinds)}; put it into metadata, or name its kind'
      )

  def list_texts(self, record: Record) -> Iterator[str]:
    """Lists all texts of a record that a tokenizer learns from."""
    for name, value in record['fields'].items():
      yield from self._classes[name].list_all_texts(value)

  def save(self, folder: pathlib.Path) -> None:
    """Writes `FIELDS_FILE` into a data set's folder."""
    fields = {
      name: {'kind': kind, 'complete': name in self.complete}
      for name, kind in self.kinds.items()
    }
    (folder / FIELDS_FILE).write_text(json.dumps(fields, indent=2))

  @classmethod
  def load(cls, folder: pathlib.Path) -> 'Schema | None':
    """Reads `FIELDS_FILE`; None for data sets that mmjax didn't write.

    Raises:
      ConfigError: if the file is damaged.
    """
    path = folder / FIELDS_FILE
    if not path.exists():
      return None
    try:
      fields = json.loads(path.read_text())
      kinds = {name: entry['kind'] for name, entry in fields.items()}
      return cls(kinds, [n for n in kinds if fields[n].get('complete')])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      raise ConfigError(f'{path} is damaged: {error}') from error


def get_default_data_dir() -> pathlib.Path:
  """Returns `MMJAX_DATA_DIR`, or else a folder in the user's cache."""
  folder = os.environ.get('MMJAX_DATA_DIR') or '~/.cache/mmjax/data'
  return pathlib.Path(folder).expanduser()


def find_folder(
  name: str, data_dir: str | os.PathLike | None = None
) -> pathlib.Path | None:
  """Finds the folder of a prepared data set's newest version.

  Args:
    name: name of the data set, perhaps with a configuration: 'shapes/small'.
    data_dir: folder of all data sets; by default `get_default_data_dir()`.

  Returns:
    The folder with `dataset_info.json`; None where there is none.
  """
  root = pathlib.Path(data_dir or get_default_data_dir()).expanduser() / name
  settings = root / '.config' / 'metadata.json'
  if settings.exists():
    default = json.loads(settings.read_text())['default_config_name']
    return _find_newest_version(root / default) or _find_newest_version(root)
  return _find_newest_version(root)


def list_prepared(data_dir: str | os.PathLike | None = None) -> list[str]:
  """Lists the data sets in a folder, by the names that `find_folder` takes.

  A data set has one name for each of its configurations; that of the default
  one is the data set's alone.
  """
  root = pathlib.Path(data_dir or get_default_data_dir()).expanduser()
  names = {}
  for pattern in ('*', '*/*'):
    for path in sorted(root.glob(pattern)):
      name = path.relative_to(root).as_posix()
      folder = None if name.startswith('.') else find_folder(name, root)
      if folder is not None:
        names.setdefault(folder, name)
  return sorted(names.values())


def _find_newest_version(folder: pathlib.Path) -> pathlib.Path | None:
  versions = {}
  for path in folder.glob('*/dataset_info.json'):
    numbers = path.parent.name.split('.')
    if len(numbers) == 3 and all(number.isdigit() for number in numbers):
      versions[tuple(map(int, numbers))] = path.parent
  return versions[max(versions)] if versions else None
