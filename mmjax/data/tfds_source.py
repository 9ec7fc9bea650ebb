"""Reads prepared TFDS data sets, mmjax's and others, as records."""

import contextlib
import difflib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import records
from mmjax.errors import ConfigError

# Names that `fields` may have.
FIELDS = ('id', 'image', 'captions', 'question', 'answers', 'type')
BUILT_IN = ('shapes', 'shapes/small', 'easy_vqa')

_TEXTS = tfds.features.FeaturesDict(
  {key: records.FEATURES[key] for key in records.FEATURES if key != 'image'}
)


class TfdsRecords:
  """A split of a prepared data set; opens its files again when unpickled.

  Attributes:
    folder: folder of the prepared version, with dataset_info.json.
    split: the requested split, in TFDS's notation.
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
    builder = tfds.builder_from_directory(self.folder)
    self._rows = _open_rows(builder, split)
    features = builder.info.features
    is_ours = set(features) == set(records.FEATURES)
    _check_fields(self.folder, features, self._fields, is_ours)
    self._foreign = None if is_ours else _Foreign(features, self._fields, split)

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
    folders = ' or '.join(str(root) for root in roots)
    known = [*BUILT_IN, *records.list_prepared(data_dir)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean {close[0]!r}? Else ' if close else ''
    raise ConfigError(
      f'data set {name!r} is not prepared in {folders}; {hint}prepare it with'
      '\n  ' + _suggest_command(name, data_dir)
    )

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, index: int, texts_only: bool = False) -> records.Record:
    """Returns the record of an index; without its image if texts_only."""
    with _convert_damage():
      row = self._rows[index]
    if self._foreign is not None:
      return self._foreign.read(row, index, texts_only)
    if texts_only:
      with _convert_damage():
        raw = _TEXTS.deserialize_example_np(row)
      return records.decode_record({**raw, 'image': b''})
    with _convert_damage():
      raw = records.FEATURES.deserialize_example_np(
        row, decoders=records.make_decoders()
      )
    return records.decode_record(raw)

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
  except Exception as error:
    raise ConfigError(f'the stored record is damaged: {error!r}') from error


class _Foreign:
  """Converts the examples of data sets that mmjax didn't write to records."""

  def __init__(self, features: Any, fields: dict[str, str], split: str):
    self._fields = fields
    self.split = split
    self._labels = _find_labels(features, fields.values())
    mapped = {path.split('/')[0] for path in fields.values()}
    self._extra = [
      key for key in features if key not in mapped and _is_scalar(features[key])
    ]
    self._labels |= _find_labels(features, self._extra)
    keys = mapped | set(self._extra)
    self._features = _select_features(features, keys)
    image = fields.get('image')
    self._texts = _select_features(features, keys - {image})
    self._decoders = {image: tfds.decode.SkipDecoding()} if image else None

  def read(self, row: bytes, index: int, texts_only: bool) -> records.Record:
    with _convert_damage():
      if texts_only:
        raw = self._texts.deserialize_example_np(row)
      else:
        raw = self._features.deserialize_example_np(
          row, decoders=self._decoders
        )
    questions = self._read_list(raw, 'question')
    answers = self._read_list(raw, 'answers')
    types = self._read_list(raw, 'type')
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
      image = bytes(_get_feature(raw, self._fields['image']))
    names = self._read_list(raw, 'id')
    return {
      'id': names[0] if names else f'{self.split}/{index}',
      'image': image,
      'captions': self._read_list(raw, 'captions'),
      'questions': entries,
      'metadata': {key: self._to_plain(raw[key], key) for key in self._extra},
    }

  def _read_list(self, raw: Mapping[str, Any], field: str) -> list[str]:
    path = self._fields.get(field)
    if path is None:
      return []
    value = _get_feature(raw, path)
    is_list = isinstance(value, list | tuple) or np.ndim(value) > 0
    return [
      str(self._to_plain(item, path))
      for item in (value if is_list else [value])
    ]

  def _to_plain(self, value: Any, path: str) -> Any:
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
  folder: pathlib.Path, features: Any, fields: dict[str, str], is_ours: bool
) -> None:
  if is_ours and fields:
    raise ConfigError(
      f'{folder} was written by mmjax, so it needs no `fields`; remove {fields}'
    )
  if is_ours:
    return
  names = ', '.join(_list_paths(features))
  if not fields:
    raise ConfigError(
      f"{folder} wasn't written by mmjax; map its features ({names}) to "
      f'{", ".join(FIELDS)} with `fields`'
    )
  for field, path in fields.items():
    if field not in FIELDS:
      raise ConfigError(
        f'`fields` names {field!r}; use one of {", ".join(FIELDS)}'
      )
    if path not in _list_paths(features):
      raise ConfigError(
        f'{folder} has no feature {path!r} for {field}; it has {names}'
      )


def _list_paths(features: Any) -> list[str]:
  """Lists the names of features; those inside sequences have slashes."""
  paths = []
  for key in features:
    inner = getattr(features[key], 'feature', None)
    if isinstance(inner, Mapping | tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in _list_paths(inner)]
    elif isinstance(features[key], tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in _list_paths(features[key])]
    else:
      paths.append(key)
  return paths


def _find_labels(features: Any, paths: Any) -> dict[str, Any]:
  """Finds the features that are class labels, by path."""
  labels = {}
  for path in paths:
    feature = features
    for key in path.split('/'):
      feature = getattr(feature, 'feature', feature)
      feature = feature[key]
    feature = getattr(feature, 'feature', feature)
    if isinstance(feature, tfds.features.ClassLabel):
      labels[path] = feature
  return labels


def _select_features(features: Any, keys: set) -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
    {key: features[key] for key in features if key in keys}
  )


def _is_scalar(feature: Any) -> bool:
  return isinstance(feature, tfds.features.Tensor) and feature.shape == ()


def _get_feature(raw: Any, path: str) -> Any:
  for key in path.split('/'):
    raw = raw[key]
  return raw


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
  if base in tfds.list_builders(with_community_datasets=False):
    return _suggest_tfds_command(name, data_dir)
  return (
    f'mmjax data import --format=FORMAT --input=FILES '
    f'--name={base}{where or " --data_dir=DIR"}'
  )


def _suggest_tfds_command(
  name: str, data_dir: str | os.PathLike | None = None
) -> str:
  where = f", data_dir='{data_dir}'" if data_dir else ''
  return (
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('{name}'{where})"
    ".download_and_prepare(file_format='array_record')\""
  )
