"""The record that every prepared data set holds.

In memory a record is a plain dict:

  id         str, unique in the data set
  image      bytes, an encoded PNG or JPEG; b'' where there is none
  captions   list of str
  questions  list of {'question': str, 'answers': list of str, 'type': str}
  metadata   dict of further fields, anything JSON can say

On disk it is a TFDS example with the features below. `questions` and `metadata`
are one JSON text each: TFDS needs TensorFlow to write lists of lists.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from mmjax.errors import ConfigError

Record = dict[str, Any]

FEATURES = tfds.features.FeaturesDict(
  {
    'id': tfds.features.Text(),
    'image': tfds.features.Image(shape=(None, None, 3)),
    'captions': tfds.features.Sequence(tfds.features.Text()),
    'questions': tfds.features.Text(),
    'metadata': tfds.features.Text(),
  }
)

# Nesting and sizes of numbers that the json library always writes.
_MAX_LEVELS = 200
_MAX_BITS = 10_000

# Files beside the records of a data set that mmjax wrote.
TOKENIZER_FILE = 'tokenizer.json'
ANSWERS_FILE = 'answers.json'  # Counts of the answers by split.


def make_decoders() -> dict[str, Any]:
  """Makes the `decoders` of `as_data_source` that keep images encoded."""
  return {'image': tfds.decode.SkipDecoding()}


def encode_record(record: Record) -> dict[str, Any]:
  """Converts a record to the example that TFDS writes.

  Raises:
    ConfigError: if a field is missing, unknown or of the wrong type.
  """
  _check_types(record)
  return {
    'id': record['id'],
    'image': record['image'],
    'captions': list(record['captions']),
    'questions': json.dumps(record['questions'], ensure_ascii=False),
    'metadata': json.dumps(record['metadata'], ensure_ascii=False),
  }


def check(record: Record) -> None:
  """Refuses a record that can't be written.

  Raises:
    ConfigError: if a field is missing, unknown or of the wrong type, or holds a
      value that JSON or UTF-8 can't represent.
  """
  _check_types(record)
  fields = {key: record[key] for key in record if key != 'image'}
  try:
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    if not text.isascii():
      text.encode()
  except (TypeError, ValueError, RecursionError) as error:
    metadata = fields.pop('metadata')
    for name, value in (*fields.items(), *metadata.items()):
      reason = _explain_fault(name) or _explain_fault(value)
      if reason:
        raise ConfigError(f'field {name!a:.80} {reason}') from error
    raise


def _explain_fault(value: Any) -> str:
  """Explains why a field's value can't be written; '' if it can."""
  pending = [(value, 0)]
  while pending:
    value, depth = pending.pop()
    if depth > _MAX_LEVELS:
      return 'is nested too deeply'
    if isinstance(value, dict):
      pending += [(item, depth + 1) for item in (*value, *value.values())]
    elif isinstance(value, list | tuple):
      pending += [(item, depth + 1) for item in value]
    elif reason := _explain_leaf_fault(value):
      return reason
  return ''


def _explain_leaf_fault(value: Any) -> str:
  if isinstance(value, str):
    try:
      value.encode()
    except UnicodeEncodeError as error:
      around = value[max(error.start - 30, 0) : error.start + 1]
      return f'has a lone surrogate or a byte of another encoding in {around!a}'
  elif isinstance(value, float):
    if not math.isfinite(value):
      return f'has the number {value}, which JSON cannot represent'
  elif isinstance(value, int):
    if value.bit_length() > _MAX_BITS:
      return f'has a number of more than {_MAX_BITS:,} bits'
  elif value is not None:
    return f'has {type(value).__name__}, which JSON cannot represent'
  return ''


def decode_record(raw: Mapping[str, Any]) -> Record:
  """Converts an example that TFDS read with `make_decoders()` to a record."""
  return {
    'id': raw['id'].decode(),
    'image': bytes(raw['image']),
    'captions': [caption.decode() for caption in raw['captions']],
    'questions': json.loads(raw['questions']),
    'metadata': json.loads(raw['metadata']),
  }


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


def _check_types(record: Record) -> None:
  types = {
    'id': str,
    'image': bytes,
    'captions': list,
    'questions': list,
    'metadata': dict,
  }
  if set(record) != set(types):
    raise ConfigError(
      f'a record has the fields {sorted(types)}, not {sorted(record)}; put '
      'further fields into metadata'
    )
  for field, kind in types.items():
    if not isinstance(record[field], kind):
      raise ConfigError(
        f'field {field} of record {record["id"]!r} should be {kind.__name__}, '
        f'not {type(record[field]).__name__}'
      )
  for entry in record['questions']:
    if set(entry) != {'question', 'answers', 'type'}:
      raise ConfigError(
        f'a question of record {record["id"]!r} has the fields '
        f'{sorted(entry)}, not question, answers and type'
      )
