"""Reads prepared TFDS data sets, mmjax's and others, as records."""

import contextlib
import difflib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epy

from mmjax.data import records
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds

  from mmjax.data import foreign_records

# Made for the config that names it; nothing is stored.
GENERATED = 'synthetic'
BUILT_IN = ('shapes', 'shapes/small', 'shapes_senses', 'easy_vqa')


class TfdsRecords:
  """A split of a prepared data set; opens its files again when unpickled.

  Attributes:
    folder: folder of the prepared version, with dataset_info.json.
    split: the requested split, in TFDS's notation.
    schema: fields of the records.
    classes: names of classes, as of `sources.Source`.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    split: str,
    fields: Mapping[str, str] | None = None,
  ):
    """Opens the files.

    Args:
      folder: folder of the prepared version.
      split: split in TFDS's notation, as in `sources.open_source`.
      fields: feature of each field, as in `sources.open_source`; None for data
        sets that mmjax wrote.

    Raises:
      ConfigError: if the split or a feature doesn't exist, or `fields` is
        missing or not needed.
    """
    self.folder = pathlib.Path(folder)
    self.split = split
    self._fields = dict(fields or {})
    builder = _open_builder(self.folder)
    self._rows = _open_rows(builder, split)
    schema = records.Schema.load(self.folder)
    _check_fields(
      self.folder,
      builder.info.features,
      self._fields,
      is_ours=schema is not None,
    )
    if schema is not None:
      self._reader: Any = _Reader(schema)
    else:
      self._reader = foreign_records.ForeignReader(
        builder.info.features, self._fields, split
      )
    self.schema, self.classes = self._reader.schema, self._reader.classes

  @classmethod
  def open(
    cls,
    name: str,
    split: str,
    data_dir: str | os.PathLike | None,
    fields: Mapping[str, str] | None,
  ) -> 'TfdsRecords':
    """Finds and opens a data set by name, as in `sources.open_source`."""
    roots = _list_data_dirs(data_dir)
    for root in roots:
      folder = _find_folder(name, root)
      if folder is not None:
        return cls(folder, split, fields)
    if name.partition('/')[0] == GENERATED:
      raise ConfigError(
        f'data set {name!r} is random, for training and plans alone, and is '
        'not stored; use a prepared one, which `mmjax data list` prints'
      )
    folders = ' or '.join(str(root) for root in roots)
    known = sorted({*BUILT_IN, *records.list_prepared(data_dir)} - {name})
    is_known = name.partition(':')[0] in BUILT_IN
    close = [] if is_known else difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean {close[0]!r}? Else ' if close else ''
    raise ConfigError(
      f'data set {name!r} is not prepared in {folders}; {hint}prepare it with'
      '\n  ' + _suggest_command(name, data_dir)
    )

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, index: int, small_only: bool = False) -> records.Record:
    """Returns the record of an index; without large fields if small_only."""
    with _convert_damage():
      return self._reader.read(self._rows[index], index, small_only)

  def __getstate__(self) -> tuple:
    return (self.folder, self.split, self._fields)

  def __setstate__(self, state: tuple) -> None:
    self.__init__(*state)


@contextlib.contextmanager
def _convert_damage() -> Iterator[None]:
  """Converts the errors of damaged records, which are of many kinds.

  Raises:
    ConfigError: if the context raises.
  """
  try:
    yield
  except ConfigError:
    raise
  except Exception as error:
    raise ConfigError(f'the stored record is damaged: {error!r}') from error


class _Reader:
  """Reads the examples of a data set that mmjax wrote."""

  def __init__(self, schema: records.Schema):
    self.schema, self.classes = schema, {}
    self._features = schema.make_tfds_features()
    self._small = schema.make_tfds_features(large=False)
    self._decoders = schema.make_decoders()

  def read(self, row: bytes, index: int, small_only: bool) -> records.Record:
    del index
    if small_only:
      return self.schema.decode(self._small.deserialize_example_np(row))
    return self.schema.decode(
      self._features.deserialize_example_np(row, decoders=self._decoders)
    )


def _open_builder(folder: pathlib.Path) -> Any:
  try:
    return tfds.builder_from_directory(folder)
  except ModuleNotFoundError as error:
    if error.name != 'tensorflow':
      raise
    raise ConfigError(
      f'{folder} has a feature that TFDS reads with TensorFlow alone, such as '
      'tfds.features.Audio or Video; write its files and import them with '
      '`mmjax data import`'
    ) from error


def _open_rows(builder: Any, split: str) -> Any:
  try:
    return builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  except NotImplementedError as error:
    raise ConfigError(
      f'{builder.data_dir} is stored as {builder.info.file_format.value}, '
      'which has no random access; prepare it again with\n  '
      + _suggest_tfds_command(builder.info.name)
    ) from error
  except (ValueError, KeyError) as error:
    counts = ', '.join(
      f'{key} ({info.num_examples})'
      for key, info in builder.info.splits.items()
    )
    raise ConfigError(
      f'{builder.info.full_name} has no split {split!r}; it has {counts}, '
      'parts such as train[:10%] and sums such as train+test; a config names '
      'them in data.train_split, eval_split, test_split and extra_splits'
    ) from error


def _check_fields(
  folder: pathlib.Path,
  features: Any,
  fields: Mapping[str, str],
  *,
  is_ours: bool,
) -> None:
  if is_ours and fields:
    raise ConfigError(
      f'{folder} was written by mmjax, so it needs no `fields`; remove '
      f'{dict(fields)}'
    )
  if not is_ours and not fields:
    raise ConfigError(
      f"{folder} wasn't written by mmjax; map its features "
      f'({", ".join(foreign_records.list_paths(features))}) to fields such as '
      f'{", ".join(records.STANDARD)} with `fields`'
    )


def _list_data_dirs(data_dir: str | os.PathLike | None) -> list[pathlib.Path]:
  if data_dir:
    return [pathlib.Path(data_dir).expanduser()]
  tfds_dir = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return [records.get_default_data_dir(), pathlib.Path(tfds_dir).expanduser()]


def _find_folder(name: str, root: pathlib.Path) -> pathlib.Path | None:
  name, _, version = name.partition(':')
  if not version:
    return records.find_folder(name, root)
  folder = root / name / version
  return folder if (folder / 'dataset_info.json').exists() else None


def _suggest_command(name: str, data_dir: str | os.PathLike | None) -> str:
  base = re.split('[/:]', name)[0]
  where = f' --data_dir={data_dir}' if data_dir else ''
  for candidate in (name.partition(':')[0], base):
    if candidate in BUILT_IN:
      return f'mmjax data prepare {candidate}{where}'
  if pathlib.Path(name).is_dir():
    return (
      f'mmjax data import --format=FORMAT --input={name} --name=NAME{where}'
    )
  if base in tfds.list_builders(with_community_datasets=False):
    return _suggest_tfds_command(name, data_dir)
  if not base.strip('.~'):  # A path is not a name.
    base = 'NAME'
  return f'mmjax data import --format=FORMAT --input=FILES --name={base}{where}'


def _suggest_tfds_command(
  name: str, data_dir: str | os.PathLike | None = None
) -> str:
  where = f", data_dir='{data_dir}'" if data_dir else ''
  return (
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('{name}'{where})"
    ".download_and_prepare(file_format='array_record')\""
  )
