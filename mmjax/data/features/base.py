"""What every kind of field has in common: storage, arrays, drawing."""

import collections.abc
import dataclasses
import fractions
import json
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epy

from mmjax.data import contact_sheet, tokenizers
from mmjax.data.features import json_faults, type_words
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds

Example = dict[str, np.ndarray]

# Fields that are no settings.
UNSET = ('name', 'tokenizer', 'media_features')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
  """A field of records: how it is stored, and the arrays that are made of it.

  The fields of a subclass are its settings in a config. An example has the
  arrays that `list_keys` names: mostly one under the feature's name, and its
  mask under `NAME_mask`, True for what the record has; what it lacks is zeros.
  Batches of examples go to the device, where `make_inputs` makes of them what a
  model reads.

  Attributes:
    name: name of the arrays in a batch.
    field: name of the field in records; '' for the feature's own name.
    kind: name of the kind in configs and beside data sets.
    field_kinds: kinds of fields that it reads.
    is_large: whether a value is so large that scans of a data set skip it.
    word: the field in words, for messages.
    training_only: settings that have an effect in training alone.
    mask_is_optional: whether batches may lack the mask where all records have
      the field; it is then of the shape [B].
    encoder_settings: settings that a trained encoder needs unchanged; the
      lengths of texts are those of the encoder.
  """

  kind: ClassVar[str] = ''
  field_kinds: ClassVar[tuple[str, ...]] = ()
  is_large: ClassVar[bool] = False
  word: ClassVar[str] = ''
  training_only: ClassVar[tuple[str, ...]] = ()
  encoder_settings: ClassVar[tuple[str, ...]] = ()
  mask_is_optional: ClassVar[bool] = False

  name: str = ''
  field: str = ''

  def __post_init__(self):
    check_types(self)

  @property
  def encoded_as(self) -> str:
    """Kind whose encoders read the arrays."""
    return self.kind

  @property
  def field_name(self) -> str:
    """Name of the field in records."""
    return self.field or self.name

  def refuse(self, setting: str, reason: str) -> None:
    """Raises a ConfigError about a setting."""
    raise ConfigError(
      f'data.features.{self.name}.{setting}={getattr(self, setting)!r:.200} '
      f'{reason}'
    )

  def get(self, record: Mapping[str, Any]) -> Any:
    """The record's value, None where it has none.

    A `field` of the form 'metadata/NAME' is an entry of the metadata.
    """
    folder, _, name = self.field_name.partition('/')
    if folder != 'metadata' or not name:
      return record['fields'].get(self.field_name)
    value = record['metadata'].get(name)
    return None if value in (None, '', []) else self.from_metadata(value)

  @classmethod
  def from_metadata(cls, value: Any) -> Any:
    """Converts an entry of the metadata to a value.

    Raises:
      ConfigError: if it is not of this kind.
    """
    raise ConfigError(
      f'metadata holds no {cls.kind}, so `field` cannot name one'
    )

  # Storage.

  @classmethod
  def make_storage(cls) -> 'tfds.features.FeatureConnector':
    """Makes the feature of a TFDS data set that stores a value."""
    return tfds.features.Text()

  @classmethod
  def pack(cls, value: Any) -> Any:
    """Converts a value, or None, to what `make_storage` stores."""
    return b'' if value is None else json.dumps(value, ensure_ascii=False)

  @classmethod
  def unpack(cls, raw: Any) -> Any:
    """Converts what is stored to the value, None where there is none."""
    value = json.loads(raw) if raw else None
    return None if value in ([], {}) else value

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    """Explains why a value can't be one of this kind; '' if it can."""
    return json_faults.explain_json_fault(value)

  # Arrays.

  def list_keys(self) -> tuple[str, ...]:
    """Lists the keys of the arrays that it makes."""
    return (self.name, f'{self.name}_mask')

  def list_variants(self) -> 'Sequence[tuple[Feature, fractions.Fraction]]':
    """Lists the features of which each training batch uses one.

    They differ in the shapes of their arrays.

    Returns:
      Each with the number of examples of its batches, as a multiple of
      `train.batch_size`.
    """
    return ((self, fractions.Fraction(1)),)

  def fit(self, source: Any) -> 'Feature':
    """Returns the feature with what it learns from the training records.

    Args:
      source: `mmjax.data.sources.Source` of the training records.

    Raises:
      ConfigError: if the records can't be used so.
    """
    del source
    return self

  def iterate_values(self, source: Any) -> Iterable[Any]:
    """Yields the value in each record, None where it has none."""
    rows = source if self.is_large else source.iterate_small()
    return (self.get(record) for record in rows)

  def list_metadata(self, source: Any) -> str:
    """Lists the metadata fields that there are, for errors about one.

    Args:
      source: the records that were searched.
    """
    if not self.field_name.startswith('metadata/'):
      return ''
    names = source.list_metadata()
    return f'; their metadata have {", ".join(names) or "nothing"}'

  @property
  def is_fitted(self) -> bool:
    """Whether `fit` would learn nothing."""
    return True

  @property
  def uses_tokenizer(self) -> bool:
    """Whether arrays are ids of a tokenizer."""
    return False

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Feature':
    """Returns the feature with the data set's tokenizer."""
    del tokenizer
    return self

  def with_features(self, features: 'Mapping[str, Feature]') -> 'Feature':
    """Returns the feature with the others that its arrays depend on.

    Args:
      features: all features by name, fitted.

    Raises:
      ConfigError: if they do not go together.
    """
    del features
    return self

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    """Whether a record has what the array of a key is made of."""
    del key
    value = self.get(record)
    return value is not None and (not isinstance(value, list) or bool(value))

  def measure(
    self, record: Mapping[str, Any]
  ) -> Iterable[tuple[str, str, bool]]:
    """Lists the texts that become ids: key, text, whether only read."""
    del record
    return ()

  def name_length(self, key: str) -> str:
    """Names the setting of the length of a key's array."""
    del key
    return 'length'

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> Any:
    """Chooses what is used of a record's value; None where it has none.

    Args:
      record: record as in `mmjax.data.records`.
      rng: random generator for training; None for evaluation.
    """
    del rng
    return self.get(record)

  def list_texts(self, chosen: Any) -> Iterable[str]:
    """Lists the texts of what was chosen."""
    del chosen
    return ()

  def make_arrays(
    self, chosen: Any, rng: np.random.Generator | None, *, flips: bool
  ) -> Example:
    """Makes the arrays of what `choose` returned.

    Args:
      chosen: the chosen value, not None.
      rng: random generator for training; None for evaluation.
      flips: whether images may be mirrored.

    Raises:
      ConfigError: if the value can't be decoded.
    """
    raise NotImplementedError

  def join(self, examples: Sequence[Example]) -> Example:
    """Makes the arrays of a row of the arrays of several examples.

    Args:
      examples: all their arrays, in their order; together they fit.

    Raises:
      ConfigError: if this kind does not share rows.
    """
    del examples
    raise ConfigError(
      f'data.features.{self.name} is of the kind {self.kind}, of which several '
      'do not share a row'
    )

  def make_absent(self, rng: np.random.Generator | None = None) -> Example:
    """Makes arrays of the same shapes, zero, with masks that are False."""
    raise NotImplementedError

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the arrays that a model reads in place of those of a batch.

    It is called on the device, within the compiled step or predict function, so
    that a batch gets there in its smaller form. It also works on numpy arrays.

    Args:
      batch: arrays [B, ...], with the feature's and its mask; perhaps traced.

    Returns:
      The arrays that change, by key; by default none.
    """
    del batch
    return {}

  def prepare(self, value: Any) -> Example:
    """Makes the arrays of what a person passes, such as a file's path.

    Raises:
      ConfigError: if it is not of this kind, or a file can't be read.
    """
    raise NotImplementedError

  # People.

  @classmethod
  def list_all_texts(cls, value: Any) -> Iterable[str]:
    """Lists all texts of a value, from which a tokenizer learns."""
    del value
    return ()

  @classmethod
  def render(cls, value: Any) -> contact_sheet.Cell:
    """Draws a value: an image [H, W, 3] uint8 or None, and lines of text."""
    return None, [f'{value}']

  # Settings.

  def to_dict(self) -> dict[str, Any]:
    """Returns the kind and all settings as JSON values."""
    settings = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in UNSET
    }
    return {'kind': self.kind, **to_json(settings)}

  def describe_arrays(self) -> dict[str, Any]:
    """Returns the settings that determine the arrays of a value.

    Two features for which they are equal make equal arrays of one value in
    evaluation.
    """
    return {
      name: value
      for name, value in self.to_dict().items()
      if name != 'field' and name not in self.training_only
    }


def check_types(feature: Feature) -> None:
  """Refuses settings of a wrong type; lists become tuples.

  Raises:
    ConfigError: naming the setting, its value and the legal type.
  """
  hints = typing.get_type_hints(type(feature))
  for field in dataclasses.fields(feature):
    value = freeze(getattr(feature, field.name))
    object.__setattr__(feature, field.name, value)
    if not _is_of(value, hints[field.name]):
      legal = type_words.describe_type(hints[field.name])
      feature.refuse(field.name, f'is not legal; use {legal}')


def _is_of(value: Any, hint: Any) -> bool:
  options = typing.get_args(hint) if _is_union(hint) else (hint,)
  for option in options:
    origin = typing.get_origin(option) or option
    if option is Any:
      return True
    if origin is float and type(value) in (int, float):
      return True
    if origin in (int, bool, str) and type(value) is origin:
      return True
    if origin is type(None) and value is None:
      return True
    if origin is collections.abc.Sequence and isinstance(value, str):
      continue  # Not a sequence of its letters.
    if origin not in (int, float, bool, str) and isinstance(value, origin):
      return True
  return False


def _is_union(hint: Any) -> bool:
  return typing.get_origin(hint) in (typing.Union, type(int | str))


def freeze(value: Any) -> Any:
  """Replaces lists by tuples, so that a round trip through JSON is exact."""
  if isinstance(value, Mapping):
    return {key: freeze(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return tuple(freeze(item) for item in value)
  return value


def are_numbers(values: Any) -> bool:
  """Whether values are finite numbers."""
  return all(type(v) in (int, float) and math.isfinite(v) for v in values)


def to_json(value: Any) -> Any:
  """Replaces tuples by lists."""
  if isinstance(value, Mapping):
    return {key: to_json(item) for key, item in value.items()}
  if isinstance(value, tuple | list):
    return [to_json(item) for item in value]
  return value


def choose_one(
  values: Sequence[Any], rng: np.random.Generator | None
) -> Any | None:
  """Draws one of some values; the first in evaluation; None of none."""
  if not values:
    return None
  if rng is None or len(values) == 1:
    return values[0]
  return values[int(rng.integers(len(values)))]
