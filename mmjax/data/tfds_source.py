"""Reading prepared TFDS data sets, ours and foreign ones, as records."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import records
from mmjax.errors import ConfigError

# What `fields` may fill.
FIELDS = ('id', 'image', 'captions', 'question', 'answers', 'type')
BUILT_IN = ('shapes', 'shapes/small', 'easy_vqa')

_TEXTS = tfds.features.FeaturesDict(
  {key: records.FEATURES[key] for key in records.FEATURES if key != 'image'}
)


class TfdsRecords:
  """A split of a prepared data set; opens its files again when unpickled.

  Attributes:
    folder: of the prepared version, with dataset_info.json.
    split: as it was asked for.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    split: str,
    fields: Mapping[str, str] | None = None,
  ):
    """Opens the files.

    Args:
      folder: of the prepared version.
      split: as in `sources.open_source`.
      fields: None for data sets that mmjax wrote.

    Raises:
      ConfigError: see `sources.open_source`.
    """
    self.folder = pathlib.Path(folder)
    self.split = split
    self._fields = dict(fields or {})
    builder = tfds.builder_from_directory(self.folder)
    self._rows = _open_rows(builder, split)
    features = builder.info.features
    ours = set(features) == set(records.FEATURES)
    _check_fields(self.folder, features, self._fields, ours)
    self._foreign = None if ours else _Foreign(features, self._fields, split)

  @classmethod
  def open(
    cls,
    name: str,
    split: str,
    data_dir: str | os.PathLike | None,
    fields: Mapping[str, str] | None,
  ) -> 'TfdsRecords':
    """Finds a data set by name; see `sources.open_source`."""
    looked = _data_dirs(data_dir)
    for root in looked:
      folder = _find_folder(name, root)
      if folder is not None:
        return cls(folder, split, fields)
    places = ' or '.join(str(root) for root in looked)
    raise ConfigError(
      f'data set {name!r} is not prepared in {places}; prepare it with\n  '
      + _command(name, data_dir)
    )

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, index: int, texts_only: bool = False) -> records.Record:
    """Returns the record of an index; without its image if texts_only."""
    with _library():
      row = self._rows[index]
    if self._foreign is not None:
      return self._foreign.read(row, index, texts_only)
    if texts_only:
      with _library():
        raw = _TEXTS.deserialize_example_np(row)
      return records.decode_record({**raw, 'image': b''})
    with _library():
      raw = records.FEATURES.deserialize_example_np(
        row, decoders=records.decoders()
      )
    return records.decode_record(raw)

  def __getstate__(self) -> tuple:
    return (self.folder, self.split, self._fields)

  def __setstate__(self, state: tuple) -> None:
    self.__init__(*state)


@contextlib.contextmanager
def _library() -> Iterator[None]:
  """Around calls that read stored records, and raise whatever damage causes.

  Raises:
    ConfigError: if one fails.
  """
  try:
    yield
  except Exception as error:
    raise ConfigError(f'the stored record is damaged: {error!r}') from error


class _Foreign:
  """Turns the examples of data sets that mmjax didn't write into records."""

  def __init__(self, features: Any, fields: dict[str, str], split: str):
    self._fields = fields
    self.split = split
    self._labels = _labels(features, fields.values())
    mapped = {path.split('/')[0] for path in fields.values()}
    self._extra = [
      key for key in features if key not in mapped and _is_scalar(features[key])
    ]
    self._labels |= _labels(features, self._extra)
    wanted = mapped | set(self._extra)
    self._features = _only(features, wanted)
    image = fields.get('image')
    self._texts = _only(features, wanted - {image})
    self._decoders = {image: tfds.decode.SkipDecoding()} if image else None

  def read(self, row: bytes, index: int, texts_only: bool) -> records.Record:
    with _library():
      if texts_only:
        raw = self._texts.deserialize_example_np(row)
      else:
        raw = self._features.deserialize_example_np(
          row, decoders=self._decoders
        )
    questions = self._list(raw, 'question')
    answers = self._list(raw, 'answers')
    types = self._list(raw, 'type')
    if len(questions) > 1:
      answers = [[answer] for answer in answers]
    else:
      answers = [answers]
    entries = [
      {
        'question': question,
        'answers': answers[i] if i < len(answers) else [],
        'type': types[i] if i < len(types) else '',
      }
      for i, question in enumerate(questions)
    ]
    image = b''
    if 'image' in self._fields and not texts_only:
      image = bytes(_at(raw, self._fields['image']))
    names = self._list(raw, 'id')
    return {
      'id': names[0] if names else f'{self.split}/{index}',
      'image': image,
      'captions': self._list(raw, 'captions'),
      'questions': entries,
      'metadata': {key: self._plain(raw[key], key) for key in self._extra},
    }

  def _list(self, raw: Mapping[str, Any], field: str) -> list[str]:
    path = self._fields.get(field)
    if path is None:
      return []
    value = _at(raw, path)
    several = isinstance(value, list | tuple) or np.ndim(value) > 0
    return [
      str(self._plain(item, path)) for item in (value if several else [value])
    ]

  def _plain(self, value: Any, path: str) -> Any:
    if path in self._labels:
      return self._labels[path].int2str(int(value)).replace('_', ' ')
    if isinstance(value, bytes):
      return value.decode('utf-8', errors='replace')
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _open_rows(builder: Any, split: str) -> Any:
  try:
    return builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  except NotImplementedError as error:
    raise ConfigError(
      f'{builder.data_dir} is stored as {builder.info.file_format.value}, '
      'which has no random access; prepare it anew with\n  '
      + _catalogue_command(builder.info.name)
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
  folder: pathlib.Path, features: Any, fields: dict[str, str], ours: bool
) -> None:
  if ours and fields:
    raise ConfigError(
      f'{folder} holds records of mmjax; it takes no `fields`, not {fields}'
    )
  if ours:
    return
  names = ', '.join(_paths(features))
  if not fields:
    raise ConfigError(
      f"{folder} wasn't written by mmjax; say with `fields` which of its "
      f'features ({names}) fill which of {", ".join(FIELDS)}'
    )
  for field, path in fields.items():
    if field not in FIELDS:
      raise ConfigError(
        f'`fields` names {field!r}; use one of {", ".join(FIELDS)}'
      )
    if path not in _paths(features):
      raise ConfigError(
        f'{folder} has no feature {path!r} for {field}; it has {names}'
      )


def _paths(features: Any) -> list[str]:
  """Names of features; those inside sequences with slashes."""
  paths = []
  for key in features:
    inner = getattr(features[key], 'feature', None)
    if isinstance(inner, Mapping | tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in _paths(inner)]
    elif isinstance(features[key], tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in _paths(features[key])]
    else:
      paths.append(key)
  return paths


def _labels(features: Any, paths: Any) -> dict[str, Any]:
  """Class label features by path."""
  found = {}
  for path in paths:
    feature = features
    for key in path.split('/'):
      feature = getattr(feature, 'feature', feature)
      feature = feature[key]
    feature = getattr(feature, 'feature', feature)
    if isinstance(feature, tfds.features.ClassLabel):
      found[path] = feature
  return found


def _only(features: Any, keys: set) -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
    {key: features[key] for key in features if key in keys}
  )


def _is_scalar(feature: Any) -> bool:
  return isinstance(feature, tfds.features.Tensor) and feature.shape == ()


def _at(raw: Any, path: str) -> Any:
  for key in path.split('/'):
    raw = raw[key]
  return raw


def _data_dirs(data_dir: str | os.PathLike | None) -> list[pathlib.Path]:
  if data_dir:
    return [pathlib.Path(data_dir).expanduser()]
  theirs = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return [records.default_data_dir(), pathlib.Path(theirs).expanduser()]


def _find_folder(name: str, root: pathlib.Path) -> pathlib.Path | None:
  name, _, version = name.partition(':')
  if not version:
    return records.find_folder(name, root)
  folder = root / name / version
  return folder if (folder / 'dataset_info.json').exists() else None


def _command(name: str, data_dir: str | os.PathLike | None) -> str:
  base = re.split('[/:]', name)[0]
  where = f' --data_dir={data_dir}' if data_dir else ''
  for ours in (name.partition(':')[0], base):
    if ours in BUILT_IN:
      return f'mmjax data prepare {ours}{where}'
  if base in tfds.list_builders(with_community_datasets=False):
    return _catalogue_command(name, data_dir)
  return (
    f'mmjax data import --format=webdataset|jsonl|csv --input=FILES '
    f'--name={base}{where or " --data_dir=DIR"}'
  )


def _catalogue_command(
  name: str, data_dir: str | os.PathLike | None = None
) -> str:
  where = f", data_dir='{data_dir}'" if data_dir else ''
  return (
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('{name}'{where})"
    ".download_and_prepare(file_format='array_record')\""
  )
