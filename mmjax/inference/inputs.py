"""What is to be encoded: files, lines of texts, or a field of a data set."""

import dataclasses
import glob
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import csv, json, parquet

from mmjax.data import extra_fields, images, records, sources, tfds_source
from mmjax.errors import ConfigError, suggest

# Endings of files by kind of the values.
ENDINGS = {
  'image': tuple(f'.{ending}' for ending in images.ENDINGS),
  **extra_fields.ENDINGS,
}
_FIELDS = {'text': 'captions'}  # Of data sets, where it isn't the kind.
_TABLES = {
  '.csv': csv.read_csv,
  '.parquet': parquet.read_table,
  '.jsonl': json.read_json,
}


@dataclasses.dataclass(frozen=True)
class Items:
  """Values by number.

  Attributes:
    kind: 'image', 'text', 'sound' or 'video'.
    names: names of each value: path, text, or id of a record.
    get: function from its number to the value, as a person passes it or as a
      record of a data set has it.
    is_stored: whether it is as a record has it.
    origin: where the values are, as JSON values, for `open_origin`.
    fingerprint: text that other values are unlikely to have.
  """

  kind: str
  names: Sequence[str]
  get: Callable[[int], Any]
  is_stored: bool
  origin: Mapping[str, Any]
  fingerprint: str

  def __len__(self) -> int:
    return len(self.names)


def find(
  kind: str,
  where: str,
  *,
  split: str = 'test',
  field: str = '',
  column: str = '',
  data_dir: str | None = None,
) -> Items:
  """Finds the values that `where` stands for.

  Args:
    kind: 'image', 'text', 'sound' or 'video'.
    where: a file, a folder (with those inside it) or a pattern such as
      'photos/**/*.jpg'; of texts a file with one in each line, or a .csv,
      .jsonl or .parquet; or the name of a prepared data set.
    split: split of a data set.
    field: field of a data set; '' for the kind's usual one.
    column: column of a table of texts.
    data_dir: folder of data sets; None for the default.

  Raises:
    ConfigError: if there is nothing there, or not of the kind.
  """
  path = Path(where).expanduser()
  if kind == 'text':
    if path.is_file():
      return _read_texts(path, column)
  elif path.is_file():
    return _list_files(kind, [path], os.getcwd())
  elif path.is_dir():
    found = _list_folder(kind, path)
    return _list_files(kind, [path / name for name in found], path)
  elif glob.has_magic(where):
    return _list_files(kind, list(map(Path, _match(where))), os.getcwd())
  # A name may have a slash too, such as shapes/small.
  is_path = os.sep in where and where not in tfds_source.BUILT_IN
  if path.exists() or (
    is_path and where not in records.list_prepared(data_dir)
  ):
    raise ConfigError(_explain_path(kind, where, path))
  return _open_data_set(kind, where, split, field, data_dir)


def list_files(kind: str, where: str) -> list[str]:
  """Paths of a file, of the files of a kind in a folder, or of a pattern.

  Args:
    kind: 'image', 'sound' or 'video'.
    where: path or pattern; a path need not exist.

  Raises:
    ConfigError: if the folder has no such file, or none matches.
  """
  path = Path(where).expanduser()
  if path.is_dir():
    return [str(path / name) for name in _list_folder(kind, path)]
  if not path.exists() and glob.has_magic(where):
    return _match(where)
  return [str(path)]


def open_origin(origin: Mapping[str, Any]) -> Callable[[str], Any] | None:
  """A function from a name to its value, or None of texts.

  The value is a path, or what a record of a data set has.

  Args:
    origin: `Items.origin`.

  Raises:
    ConfigError: if the data set is not there any more.
  """
  if 'folder' in origin:
    return lambda name: Path(origin['folder']) / name
  if 'data' not in origin:
    return None
  source = sources.open_source(
    origin['data'], origin['split'], data_dir=origin['data_dir']
  )
  numbers = {record['id']: i for i, record in enumerate(source.iterate_small())}
  return lambda name: source[numbers[name]]['fields'][origin['field']]


def _explain_path(kind: str, where: str, path: Path) -> str:
  if not path.exists():
    return f'there is no file or folder {where}; check the path'
  return f'{where} is a folder; give a file of {kind}s'


def _match(pattern: str) -> list[str]:
  """Files that match a pattern, in order."""
  matches = glob.glob(os.path.expanduser(pattern), recursive=True)
  files = sorted(match for match in matches if os.path.isfile(match))
  if not files:
    raise ConfigError(f'no file matches {pattern!r}; check the pattern')
  return files


def _list_folder(kind: str, folder: Path) -> list[str]:
  """Files of a kind below a folder, without hidden ones, in order."""
  names = sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.name.lower().endswith(ENDINGS[kind])
    and path.is_file()
    and not any(p.startswith('.') for p in path.relative_to(folder).parts)
  )
  if not names:
    raise ConfigError(
      f'{folder} has no file that ends in {", ".join(ENDINGS[kind])}; give '
      'another folder, or a pattern'
    )
  return names


def _list_files(kind: str, paths: Sequence[Path], folder: Any) -> Items:
  base = Path(folder).resolve()
  digest = hashlib.sha256()
  names = []
  for path in paths:
    state = path.stat()
    resolved = Path(os.path.abspath(path))
    inside = resolved.is_relative_to(base)
    names.append(str(resolved.relative_to(base) if inside else resolved))
    digest.update(f'{names[-1]} {state.st_size} {state.st_mtime_ns}\n'.encode())
  return Items(
    kind=kind,
    names=names,
    get=lambda i: str(paths[i]),
    is_stored=False,
    origin={'folder': str(base)},
    fingerprint=digest.hexdigest(),
  )


def _read_texts(path: Path, column: str) -> Items:
  suffix = path.suffix.lower()
  if suffix in _TABLES:
    texts = _read_column(path, suffix, column)
  else:
    if column:
      raise ConfigError(
        f'--column={column} is for {", ".join(_TABLES)}, but {path} has a text '
        'in each line; leave it out'
      )
    try:
      lines = path.read_text('utf-8').splitlines()
    except UnicodeDecodeError as error:
      raise ConfigError(
        f'{path} is not UTF-8 at byte {error.start}; convert it'
      ) from error
    texts = [line for line in map(str.strip, lines) if line]
    if texts and len(texts) < len(lines):
      number = len(lines) - len(texts)
      print(f'note: {number} empty lines of {path} are left out')
  if not texts:
    raise ConfigError(f'{path} has no text')
  digest = hashlib.sha256('\n'.join(texts).encode()).hexdigest()
  return Items('text', texts, texts.__getitem__, False, {}, digest)


def _read_column(path: Path, suffix: str, column: str) -> list[str]:
  try:
    table = _TABLES[suffix](path)
  except pyarrow.ArrowInvalid as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error
  names = table.column_names
  if column not in names:
    raise ConfigError(
      f'{path} has no column {column!r}, but {", ".join(names)}; name one with '
      f'--column{suggest(column, names)}'
    )
  values = table[column].to_pylist()
  for row, value in enumerate(values):
    if not isinstance(value, str):
      raise ConfigError(
        f'{path}: row {row + 1} of {column} is {value!r:.80}, not a text'
      )
  return values


def _open_data_set(
  kind: str, name: str, split: str, field: str, data_dir: str | None
) -> Items:
  try:
    source = sources.open_source(name, split, data_dir=data_dir)
  except ConfigError as error:
    if name in records.list_prepared(data_dir):
      raise
    raise ConfigError(
      f'{name} is neither a file, a folder nor a prepared data set: {error}'
    ) from error
  field = field or _FIELDS.get(kind, kind)
  if source.kinds.get(field) != kind:
    listed = ', '.join(f'{name} ({k})' for name, k in source.kinds.items())
    raise ConfigError(
      f'the data set {name} has no field {field!r} of the kind {kind}, but '
      f'{listed}; name one with --data_field'
    )
  digest = f'{name} {split} {source.folder} {len(source)} {field}'
  stored = list(source.iterate_small())
  if kind == 'text':
    # Several records may have the same text, which is its own name.
    texts = list(
      dict.fromkeys(
        text for record in stored for text in _list_texts(record, field)
      )
    )
    if not texts:
      raise ConfigError(f'no record of {name}, {split!r}, has {field!r}')
    return Items(kind, texts, texts.__getitem__, False, {}, digest)
  return Items(
    kind=kind,
    names=[record['id'] for record in stored],
    get=lambda i: source[i]['fields'].get(field),
    is_stored=True,
    origin={'data': name, 'split': split, 'data_dir': data_dir, 'field': field},
    fingerprint=digest,
  )


def _list_texts(record: Mapping[str, Any], field: str) -> list[str]:
  value = record['fields'].get(field) or []
  if isinstance(value, Mapping):
    return [text for texts in value.values() for text in texts]
  return list(value)
