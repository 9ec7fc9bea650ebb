"""Reads TFDS data sets that mmjax didn't write as records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import features as kinds
from mmjax.data import number_arrays, records
from mmjax.errors import ConfigError

# Names in `fields` that are not fields of records: the id, and what fills the
# field `questions` together.
SPECIAL = ('id', 'question', 'answers', 'type')
# Kinds of the classes of features, the first that fits.
_KINDS = (
  (tfds.features.Image, 'image'),
  (tfds.features.ClassLabel, 'category'),
  (tfds.features.Text, 'text'),
)
_KINDS_BY_AXES = ('number', 'vector', 'series')


class _KeepEncoded(tfds.decode.SkipDecoding):
  """Keeps images encoded, also those of sequences."""

  def decode_batch_example_np(self, serialized_example: Any) -> Any:
    return serialized_example

  decode_ragged_example_np = decode_batch_example_np


class ForeignReader:
  """Converts the examples of a data set that mmjax didn't write to records.

  Attributes:
    schema: fields of the records.
    classes: names of the classes of fields, and of metadata as 'metadata/NAME'.
  """

  def __init__(self, features: Any, fields: Mapping[str, str], split: str):
    """Finds the features.

    Args:
      features: features of the data set.
      fields: feature of each field, perhaps with a kind before it, as in
        `mmjax.data.sources.open_source`.
      split: split, for ids.

    Raises:
      ConfigError: if a feature doesn't exist, or its kind is unknown.
    """
    self.split = split
    self._paths: dict[str, str] = {}
    self._kinds: dict[str, str] = {}
    for field, text in fields.items():
      kind, colon, path = text.rpartition(':')
      _check_path(features, field, path)
      self._paths[field] = path
      if field not in SPECIAL:
        inferred = _infer_kind(_find_feature(features, path), path)
        if field == 'captions':
          inferred = 'text'
        self._kinds[field] = kind if colon else inferred
    schema = dict(self._kinds)
    if 'question' in fields:
      schema['questions'] = 'questions'
    self.schema = records.Schema(schema)
    mapped = {path.split('/')[0] for path in self._paths.values()}
    self._extra = [
      key for key in features if key not in mapped and _is_scalar(features[key])
    ]
    self._labels = _find_labels(features, [*self._paths.values(), *self._extra])
    places = {path: f'metadata/{path}' for path in self._extra}
    places |= {self._paths[field]: field for field in self._kinds}
    self.classes = {
      places[path]: [name.replace('_', ' ') for name in labels.names]
      for path, labels in self._labels.items()
      if path in places
    }
    keys = mapped | set(self._extra)
    large = {
      self._paths[field].split('/')[0]
      for field, kind in self._kinds.items()
      if kinds.KINDS[kind].is_large
    }
    self._features = _select_features(features, keys)
    self._small = _select_features(features, keys - large)
    self._decoders = {
      key: decoder
      for key in mapped
      if (decoder := _make_decoder(features[key])) is not None
    }

  def read(self, row: bytes, index: int, small_only: bool) -> records.Record:
    """Reads a serialised example; without large fields if small_only."""
    if small_only:
      raw = self._small.deserialize_example_np(row)
    else:
      raw = self._features.deserialize_example_np(row, decoders=self._decoders)
    fields = {
      field: self._convert(field, kind, raw)
      for field, kind in self._kinds.items()
      if self._paths[field].split('/')[0] in raw
    }
    if 'question' in self._paths:
      fields['questions'] = self._read_questions(raw)
    names = self._read_list(raw, 'id')
    return {
      'id': names[0] if names else f'{self.split}/{index}',
      'fields': {k: v for k, v in fields.items() if v is not None},
      'metadata': {key: self._to_plain(raw[key], key) for key in self._extra},
    }

  def _convert(self, field: str, kind: str, raw: Mapping[str, Any]) -> Any:
    """Converts a feature to the value of a field of a kind."""
    value = _get_feature(raw, self._paths[field])
    if kind in ('text', 'category'):
      return self._read_list(raw, field)
    if kind in ('number', 'vector', 'series', 'points'):
      if kind != 'number':
        value = number_arrays.convert(value)
      elif np.ndim(value) == 0:
        value = self._to_plain(value, self._paths[field])
        value = float(value) if isinstance(value, int) else value
      if fault := kinds.KINDS[kind].explain_fault(value):
        raise ConfigError(f'field {field!r} of the kind {kind} {fault}')
      return value
    if kind in ('images', 'sounds', 'video', 'videos'):
      return [_to_bytes(item, field) for item in value]
    if kind in ('image', 'sound'):
      return _to_bytes(value, field) or None
    raise ConfigError(
      f'field {field!r} of the kind {kind} cannot be read from a data set that '
      'mmjax did not write; import the files with `mmjax data import`'
    )

  def _read_questions(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    questions = self._read_list(raw, 'question')
    answers = self._read_list(raw, 'answers')
    types = self._read_list(raw, 'type')
    by_question = [[answer] for answer in answers]
    if len(questions) <= 1:
      by_question = [answers]
    return [
      {
        'question': question,
        'answers': by_question[i] if i < len(by_question) else [],
        'type': types[i] if i < len(types) else '',
      }
      for i, question in enumerate(questions)
    ]

  def _read_list(self, raw: Mapping[str, Any], field: str) -> list[str]:
    path = self._paths.get(field)
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


def list_paths(features: Any) -> list[str]:
  """Lists the names of features; those inside sequences have slashes."""
  paths = []
  for key in features:
    inner = getattr(features[key], 'feature', None)
    if isinstance(inner, Mapping | tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in list_paths(inner)]
    elif isinstance(features[key], tfds.features.FeaturesDict):
      paths += [f'{key}/{path}' for path in list_paths(features[key])]
    else:
      paths.append(key)
  return paths


def _check_path(features: Any, field: str, path: str) -> None:
  legal = list_paths(features)
  if path not in legal:
    raise ConfigError(
      f'data.fields: there is no feature {path!r} for {field}; the data set '
      f'has {", ".join(sorted(legal))}'
    )


def _infer_kind(feature: Any, path: str) -> str:
  """The kind of field that a feature fills."""
  inner = getattr(feature, 'feature', None)
  for cls, kind in _KINDS:
    if isinstance(feature, cls):
      return kind
    if inner is not None and isinstance(inner, cls):
      # Sequences of texts and classes are values of these kinds too.
      return {'image': 'images'}.get(kind, kind)
  shape = getattr(feature, 'shape', None)
  if shape is not None and len(shape) < len(_KINDS_BY_AXES):
    return _KINDS_BY_AXES[len(shape)]
  raise ConfigError(
    f'data.fields: the kind of the feature {path!r} is not known; write it '
    f'before the feature, as in {"series:" + path!r}. Kinds are '
    f'{", ".join(kinds.STORED)}'
  )


def _find_feature(features: Any, path: str) -> Any:
  """The feature of a path, its sequence if it is inside of one."""
  is_sequence = False
  feature = features
  for key in path.split('/'):
    is_sequence |= hasattr(feature, 'feature')
    feature = getattr(feature, 'feature', feature)
    feature = feature[key]
  return tfds.features.Sequence(feature) if is_sequence else feature


def _find_labels(features: Any, paths: Sequence[str]) -> dict[str, Any]:
  """Finds the features that are class labels, by path."""
  found = {path: _find_feature(features, path) for path in paths}
  found = {path: getattr(f, 'feature', f) for path, f in found.items()}
  return {
    path: feature
    for path, feature in found.items()
    if isinstance(feature, tfds.features.ClassLabel)
  }


def _select_features(features: Any, keys: set) -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
    {key: features[key] for key in features if key in keys}
  )


def _make_decoder(feature: Any) -> Any:
  """Makes decoders that keep images encoded, None without images."""
  if isinstance(feature, tfds.features.Image):
    return _KeepEncoded()
  inner = getattr(feature, 'feature', feature)
  if not isinstance(inner, tfds.features.FeaturesDict):
    return None if inner is feature else _make_decoder(inner)
  decoders = {key: _make_decoder(inner[key]) for key in inner}
  return {key: d for key, d in decoders.items() if d is not None} or None


def _is_scalar(feature: Any) -> bool:
  return isinstance(feature, tfds.features.Tensor) and feature.shape == ()


def _get_feature(raw: Any, path: str) -> Any:
  for key in path.split('/'):
    raw = raw[key]
  return raw


def _to_bytes(value: Any, field: str) -> bytes:
  if isinstance(value, bytes | np.bytes_):
    return bytes(value)
  raise ConfigError(
    f'field {field!r} is stored as an array, not as a file; import the files '
    'with `mmjax data import`'
  )
