"""Converts a record to the arrays of one example.

Decoding, augmentation, choice of text and tokenising are one pure function of
the record and a random generator; evaluation passes no generator.
"""

import dataclasses
import inspect
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mmjax.data import augment, features, records, sources, tokenizers
from mmjax.errors import ConfigError, choose, suggest

Record = Mapping[str, Any]
Example = features.Example


@dataclasses.dataclass(frozen=True)
class Preprocessor:
  """Features by name, and the rules between them.

  `preprocess(record, rng)` is for training: it augments, and draws one of
  several texts. `preprocess(record)` is for evaluation, the same at each call.
  The features determine the keys, whether or not the record has the field;
  where it hasn't, the arrays are zeros and the masks False. A model reads
  `preprocess.make_inputs(batch)`.

  Attributes:
    features: features by name; their arrays are those of `Feature.list_keys`.
    tokenizer: tokenizer of the texts; None if no feature needs one.
    complete: names of the fields that every training record has. Examples for
      training have no mask of those features whose mask is optional.
  """

  features: Mapping[str, features.Feature]
  tokenizer: tokenizers.Tokenizer | None = None
  complete: Collection[str] = ()

  def __post_init__(self):
    if self.tokenizer is None and self.uses_tokenizer:
      raise ConfigError('these features need a tokenizer; pass one')
    fitted = {
      name: feature.with_tokenizer(self.tokenizer)
      for name, feature in self.features.items()
    }
    fitted = {
      name: feature.with_features(fitted) for name, feature in fitted.items()
    }
    object.__setattr__(self, 'features', fitted)

  def __getitem__(self, name: str) -> features.Feature:
    """Returns a feature by name.

    Raises:
      ConfigError: if there is none.
    """
    return choose(name, self.features, 'the feature')

  def find(self, key: str) -> features.Feature | None:
    """The feature that makes the array of a key; None if there is none."""
    for feature in self.features.values():
      if key in feature.list_keys():
        return feature
    return None

  def __contains__(self, name: str) -> bool:
    return name in self.features

  @property
  def uses_tokenizer(self) -> bool:
    """Whether a feature makes ids of a tokenizer."""
    return any(feature.uses_tokenizer for feature in self.features.values())

  def __call__(
    self, record: Record, rng: np.random.Generator | None = None
  ) -> Example:
    """Returns the example's arrays, without the batch axis.

    Args:
      record: record as in `mmjax.data.records`.
      rng: random generator for training; None for evaluation.

    Raises:
      ConfigError: if a field can't be decoded, or is missing although it is
        `complete`.
    """
    chosen = {
      name: feature.choose(record, rng)
      for name, feature in self.features.items()
    }
    # A mirrored image would falsify a text that says left or right.
    flips = not any(
      augment.mentions_side(text)
      for name, value in chosen.items()
      if value is not None
      for text in self.features[name].list_texts(value)
    )
    example = {}
    for name, feature in self.features.items():
      if chosen[name] is None:
        example |= feature.make_absent(rng)
      else:
        example |= feature.make_arrays(chosen[name], rng, flips=flips)
      if rng is None or not self._is_complete(feature):
        continue
      if not example.pop(f'{name}_mask'):
        raise ConfigError(
          f'it has no {feature.field_name!r}, which all records of its data '
          'set should have; prepare or import the data set again'
        )
    return example

  def _is_complete(self, feature: features.Feature) -> bool:
    return feature.mask_is_optional and feature.field_name in self.complete

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the inputs of a model: images are normalised, the rest stays.

    Batches go to the device before: of images they have uint8, a quarter of the
    bytes.

    Args:
      batch: arrays [B, ...] of numpy, or traced ones, of some features.
    """
    inputs = dict(batch)
    for name, feature in self.features.items():
      if name in batch:
        inputs |= feature.make_inputs(batch)
    return inputs

  def prepare(self, *absent: str, **values: Any) -> Example:
    """Makes the inputs of a model from what people pass.

    Args:
      *absent: further features, whose arrays are zero and masked.
      **values: by feature, a value or a list of them, such as paths of files;
        all lists have one length. A feature that isn't named has no arrays.

    Returns:
      Arrays with a batch axis.

    Raises:
      ConfigError: if there is no value or no such feature, a value is not of
        its kind, a file can't be read, or the lists differ in length.
    """
    by_name = {
      name: [self[name].prepare(value) for value in _as_list(value)]
      for name, value in values.items()
    }
    lengths = {name: len(examples) for name, examples in by_name.items()}
    if len(set(lengths.values())) > 1:
      counts = ', '.join(f'{n} {name}' for name, n in lengths.items())
      raise ConfigError(f'there are {counts}; give as many of each')
    number = next(iter(lengths.values()), 0)
    if not number:
      raise ConfigError('there is no value to make arrays of')
    by_name |= {name: [self[name].make_absent()] * number for name in absent}
    return self.make_inputs(
      {
        key: np.stack([example[key] for example in examples])
        for examples in by_name.values()
        for key in examples[0]
      }
    )

  def to_dict(self) -> dict[str, Any]:
    """Returns the settings, without the tokenizer, as JSON values."""
    return {name: feature.to_dict() for name, feature in self.features.items()}

  def save(self, path: str | os.PathLike) -> None:
    """Writes the settings as JSON, for `load`."""
    pathlib.Path(path).write_text(json.dumps(self.to_dict(), indent=2))

  @classmethod
  def load(
    cls,
    path: str | os.PathLike,
    tokenizer: tokenizers.Tokenizer | None = None,
    kinds: Mapping[str, type[features.Feature]] = features.KINDS,
  ) -> 'Preprocessor':
    """Loads a preprocessor that `save` wrote.

    Raises:
      ConfigError: if a kind or setting is unknown.
    """
    settings = json.loads(pathlib.Path(path).read_text())
    return cls(build(settings, kinds), tokenizer)


def build(
  settings: Mapping[str, Mapping[str, Any]],
  kinds: Mapping[str, type[features.Feature]] = features.KINDS,
) -> dict[str, features.Feature]:
  """Makes features from plain data.

  Args:
    settings: by feature, its `kind` and the settings of that kind.
    kinds: classes by kind.

  Raises:
    ConfigError: if a kind or setting is unknown, a value is not legal, or two
      features make arrays of one name, or one of a reserved name.
  """
  built: dict[str, features.Feature] = {}
  keys: dict[str, str] = {}
  for name, chosen in settings.items():
    path = f'data.features.{name}'
    if not isinstance(chosen, Mapping):
      raise ConfigError(f"{path}={chosen!r} is not legal: dict(kind='image')")
    chosen = dict(chosen)
    cls = choose(chosen.pop('kind', None), kinds, f'{path}.kind')
    legal = set(inspect.signature(cls).parameters) - set(features.UNSET)
    unknown = sorted(set(chosen) - legal)
    if unknown:
      raise ConfigError(
        f'{path}.{unknown[0]} is unknown; {cls.kind} has {sorted(legal)}'
        f'{suggest(unknown[0], legal)}'
      )
    built[name] = cls(name=name, **chosen)
    for key in built[name].list_keys():
      if key in records.RESERVED:
        raise ConfigError(
          f'{path} makes the array {key!r}, a name that every batch has for '
          'another array; rename it'
        )
      if keys.setdefault(key, name) != name:
        raise ConfigError(
          f'data.features.{keys[key]} and {path} both make the array {key!r}; '
          'rename one'
        )
  return built


def fit(
  built: Mapping[str, features.Feature], source: sources.Source
) -> dict[str, features.Feature]:
  """Returns features with what they learn from training records."""
  return {name: feature.fit(source) for name, feature in built.items()}


def _as_list(value: Any) -> list[Any]:
  """Several values as a list; one value, such as an array, as a list of it."""
  return list(value) if isinstance(value, list | tuple) else [value]
