"""Opens the data sets that the `data` section of a config names."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from mmjax.data import (
  chat_tokenizers,
  features,
  mixtures,
  records,
  sources,
  synthetic,
  tokenizers,
)
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DataSets:
  """What a config's `data` names, opened.

  Attributes:
    sections: the `data` section of each source by its name; '' for the name of
      the only one without a mixture.
    train: training records; a `mixtures.Mixture` of a mixture.
    splits: records to evaluate on, by split as in `Feed`.
    names: by split, the name of its source, and its split there: 'val', 'test',
      or one of `extra_splits`.
  """

  sections: Mapping[str, Mapping[str, Any]]
  train: sources.Source
  splits: Mapping[str, sources.Source]
  names: Mapping[str, tuple[str, str]]

  @property
  def is_synthetic(self) -> bool:
    """Whether all records are random."""
    return all(
      synthetic.is_synthetic(section['name'])
      for section in self.sections.values()
    )

  def list_parts(self) -> dict[str, sources.Source]:
    """Lists the training records of each source by its name."""
    if isinstance(self.train, mixtures.Mixture):
      return self.train.parts
    return {'': self.train}

  def list_sections(self) -> dict[str, Mapping[str, Any]]:
    """Lists the `data` section of each split's source, by split."""
    return {
      split: self.sections[source] for split, (source, _) in self.names.items()
    }

  def name_setting(self, split: str) -> str:
    """Names the setting of a split in the config, with its value."""
    source, own = self.names[split]
    return _name_setting(self.sections[source], own, source)


def open_all(data: Mapping[str, Any]) -> DataSets:
  """Opens the only source of a config's `data`, or all of a mixture.

  Raises:
    ConfigError: if a data set, a split or a field doesn't exist.
  """
  if not data['mixture']:
    train, splits = _open_splits(data)
    return DataSets({'': data}, train, splits, {k: ('', k) for k in splits})
  sections = mixtures.list_sections(data)
  parts, splits, names = {}, {}, {}
  for source, section in sections.items():
    parts[source], own = _open_splits(section)
    for name, records_of_split in own.items():
      path = f'{name}/{source}'
      if name not in ('val', 'test'):
        path = f'test/{source}/{name}'
      splits[path], names[path] = records_of_split, (source, name)
  weights = {source: section['weight'] for source, section in sections.items()}
  return DataSets(sections, mixtures.Mixture(parts, weights), splits, names)


def _open_splits(
  data: Mapping[str, Any],
) -> tuple[sources.Source, dict[str, sources.Source]]:
  """Opens the training split of a source, and those to evaluate on by name."""

  def open_split(split: str, where: Mapping[str, Any] | None):
    if synthetic.is_synthetic(data['name']):
      return synthetic.open_split(data, split, where)
    return sources.open_source(
      data['name'],
      split,
      data_dir=data['data_dir'],
      where=where,
      fields=data['fields'],
    )

  train = open_split(data['train_split'], data['where'])
  splits = {name: open_split(name, None) for name in data['extra_splits']}
  for name, key in (('test', 'test'), ('val', 'eval')):
    if data[f'{key}_split']:
      splits[name] = open_split(data[f'{key}_split'], data[f'{key}_where'])
  return train, splits


def _name_setting(data: Mapping[str, Any], split: str, source: str) -> str:
  """Returns the setting that names a split in the config, with its value."""
  path = f'data.mixture.{source}' if source else 'data'
  field = {'val': 'eval_split', 'test': 'test_split'}.get(split)
  if field is None:
    return f'{path}.extra_splits: {split!r}'
  return f'{path}.{field}={data[field]!r}'


def open_tokenizer(
  opened: DataSets,
  data: Mapping[str, Any],
  built: Mapping[str, features.Feature],
) -> tokenizers.Tokenizer | None:
  """Opens the tokenizer of a config: 'bytes', a file, or the data set's.

  None if no feature needs one.

  Args:
    opened: the data sets.
    data: the `data` section.
    built: features by name.

  Raises:
    ConfigError: if there is none, or sources of a mixture have different ones.
  """
  if not any(feature.uses_tokenizer for feature in built.values()):
    return None
  setting = data['tokenizer']
  default = 'bytes' if opened.is_synthetic else ''
  settings = {'bos': data['bos'], 'lower_case': data['lower_case']}
  for name, value in settings.items():
    if value not in (None, False) and (setting or default) == 'bytes':
      raise ConfigError(
        f'data.{name}={value!r} needs a tokenizer from a file; leave it out, '
        'or set data.tokenizer to a tokenizer.json'
      )
  if setting == 'bytes':
    return tokenizers.make_byte_tokenizer()
  if setting:
    return chat_tokenizers.load(setting, **settings)
  own = _find_tokenizer(opened)
  if isinstance(own, int):
    return synthetic.make_tokenizer(own)
  return chat_tokenizers.load(own, **settings)


def _find_tokenizer(opened: DataSets) -> pathlib.Path | int:
  """Finds the tokenizer of the data sets: its file, or a synthetic one's size.

  Raises:
    ConfigError: if a data set has none, or two have different ones.
  """
  found: dict[str, pathlib.Path | int] = {}
  contents = set()
  for source, part in opened.list_parts().items():
    name = opened.sections[source]['name']
    if synthetic.is_synthetic(name):
      found[source] = synthetic.parse_vocab_size(name)
      contents.add(found[source])
      continue
    found[source] = part.folder / records.TOKENIZER_FILE
    if not found[source].exists():
      raise ConfigError(
        f'{part.folder} has no {records.TOKENIZER_FILE}; set data.tokenizer to '
        f"'bytes' or to the path of a tokenizer.json"
      )
    contents.add(found[source].read_bytes())
  if len(contents) > 1:
    listed = ', '.join(f'{source}: {own}' for source, own in found.items())
    raise ConfigError(
      f"data.tokenizer='', but the sources of the mixture have different "
      f"tokenizers ({listed}); set it to 'bytes', or to the path of the "
      'tokenizer.json that all of them use'
    )
  return next(iter(found.values()))
