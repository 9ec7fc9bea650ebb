"""Renames the tensors of a checkpoint to the names of the key table.

Files differ from the key table of their family in known ways: names of older
releases, prefixes of wrappers and of larger models, tied tensors of which one
is stored. Names that stay unknown are refused when the parameters are loaded.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, keys, mismatches

# Prefixes that torch.compile, FSDP and activation checkpointing add to a part.
_WRAPPERS = re.compile(
  r'(?:(?<=\.)|^)'
  r'(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)
# Prefix that DataParallel adds to the whole model.
_PARALLEL = 'module.'


@dataclasses.dataclass(frozen=True)
class Tie:
  """Two tensors that a model may tie, that is, share.

  Attributes:
    name: name of the tensor in the key table.
    other: name of the tensor that the table lacks while they are tied.
    separate: fields of config.json, by section, if they are not tied; None if
      mmjax has one parameter for both.
  """

  name: str
  other: str
  separate: Mapping[str, Any] | None = None

  def add_prefix(self, prefix: str, section: str = '') -> 'Tie':
    """Makes the tie for a larger model, whose config has it in `section`."""
    separate = self.separate
    if section and separate is not None:
      separate = {section: separate}
    return Tie(prefix + self.name, prefix + self.other, separate)


def head_tie(embedding: str, matrix: str = 'lm_head.weight') -> Tie:
  """The tie of a language model's embedding and its output matrix."""
  return Tie(embedding, matrix, {'tie_word_embeddings': False})


class RenamedTensors:
  """A checkpoint's tensors under other names than in its files.

  Attributes:
    names: names of all tensors.
  """

  def __init__(
    self, source: keys.Source, theirs: Mapping[str, str] | None = None
  ):
    """Takes a source and new name -> name in the source; None for the same."""
    self._source = source
    self._theirs = dict(theirs or {name: name for name in source.names})
    self.names = frozenset(self._theirs)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._source.shape(self._theirs[name])

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor, in its stored type."""
    return self._source.read(self._theirs[name])

  def stored_name(self, name: str) -> str:
    """Name of a tensor in the file."""
    return self._source.stored_name(self._theirs[name])

  def rename(self, rename: Callable[[str], str]) -> 'RenamedTensors':
    """Renames all tensors by a function of the name.

    Raises:
      ConfigError: if tensors that differ get the same name.
    """
    theirs: dict[str, str] = {}
    for old in sorted(self.names):
      name = rename(old)
      before = theirs.setdefault(name, self._theirs[old])
      if before != self._theirs[old] and not _are_equal(
        self._source, before, self._theirs[old]
      ):
        raise ConfigError(
          f'{before} and {self._theirs[old]} both name {name}, but they '
          'differ; keep the one that belongs to the model'
        )
    return RenamedTensors(self._source, theirs)

  def drop(self, names: Iterable[str]) -> 'RenamedTensors':
    """Leaves out the tensors with these names."""
    dropped = set(names)
    theirs = {k: v for k, v in self._theirs.items() if k not in dropped}
    return RenamedTensors(self._source, theirs)


def strip_wrappers(source: RenamedTensors) -> RenamedTensors:
  """Removes the prefixes that training libraries add.

  >>> _WRAPPERS.sub('', 'module.encoder._orig_mod.layer.0.weight')
  'module.encoder.layer.0.weight'
  """
  source = source.rename(lambda name: _WRAPPERS.sub('', name))
  while source.names and all(n.startswith(_PARALLEL) for n in source.names):
    source = source.rename(lambda name: name.removeprefix(_PARALLEL))
  return source


def apply_aliases(
  source: RenamedTensors, aliases: Sequence[tuple[str, str]]
) -> RenamedTensors:
  """Renames tensors of older releases to the names of the newest.

  Args:
    source: the tensors.
    aliases: patterns and their replacements, applied in order at the beginning
      of each name.
  """

  def rename(name: str) -> str:
    for pattern, new in aliases:
      name = re.sub(f'^(?:{pattern})', new, name)
    return name

  return source.rename(rename)


def align_prefixes(
  source: RenamedTensors,
  table: Sequence[str],
  others: Sequence[str],
  prefixes: Sequence[str],
) -> RenamedTensors:
  """Adds or removes the prefix of the whole model, as the table has it.

  BERT has 'encoder.layer.0' alone, and 'bert.encoder.layer.0' below a head.

  Args:
    source: the tensors.
    table: patterns of the names in the key table.
    others: patterns of other names that the family knows.
    prefixes: prefixes that a name may have or lack, with their dots.
  """
  known = [
    re.compile('|'.join(f'(?:{pattern})' for pattern in group))
    for group in (table, others)
    if group
  ]

  def rename(name: str) -> str:
    candidates = [name]
    for prefix in prefixes:
      if name.startswith(prefix):
        candidates.append(name.removeprefix(prefix))
      candidates.append(prefix + name)
    return next(
      (
        candidate
        for pattern in known
        for candidate in candidates
        if pattern.fullmatch(candidate)
      ),
      name,
    )

  return source.rename(rename)


def name_patterns(rules: Sequence[keys.Rule]) -> list[str]:
  """Patterns of the names in a key table."""
  layer = re.escape(keys.LAYER)
  return [re.escape(rule.theirs).replace(layer, r'\d+') for rule in rules]


def drop_unused(
  source: RenamedTensors,
  config: Mapping[str, Any],
  unused: Mapping[str, Sequence[str]],
) -> RenamedTensors:
  """Leaves out tensors that the class in config.json does not have.

  A file may have the head of another class, which transformers ignores too.

  Args:
    source: the tensors.
    config: all of config.json.
    unused: class -> patterns of such names; the first class is the default.
  """
  if not unused:
    return source
  name = configs.architecture(config, *unused)
  pattern = re.compile('|'.join(f'(?:{pattern})' for pattern in unused[name]))
  dropped = sorted(filter(pattern.fullmatch, source.names))
  if dropped:
    warnings.warn(
      f'the file has tensors that {name}, the class in config.json, does not '
      f'read; they are left out, as transformers does: '
      f'{mismatches.shorten(dropped)}',
      stacklevel=2,
    )
  return source.drop(dropped)


def resolve_ties(
  source: RenamedTensors,
  config: Mapping[str, Any],
  rules: Callable[[Mapping[str, Any]], list[keys.Rule]],
  ties: Sequence[Tie],
) -> tuple[RenamedTensors, Mapping[str, Any]]:
  """Makes tensors and config agree in which tensors are tied.

  As in transformers: of two tied tensors either may be stored; equal ones are
  tied; if they differ, they are separate, whatever config.json says.

  Args:
    source: the tensors.
    config: all of config.json.
    rules: config -> the family's key table.
    ties: tensors that the family may tie.

  Raises:
    ConfigError: if tensors differ for which mmjax has one parameter.
  """
  for tie in ties:
    table = {rule.theirs for rule in rules(config)}
    if tie.name not in table or tie.other in table:
      continue
    if tie.other not in source.names:
      continue
    if tie.name not in source.names:
      new = {tie.other: tie.name}
      source = source.rename(lambda name, new=new: new.get(name, name))
    elif _are_equal(source, tie.name, tie.other):
      source = source.drop([tie.other])
    else:
      config = _separate(config, tie)
  return source, config


def _separate(config: Mapping[str, Any], tie: Tie) -> Mapping[str, Any]:
  if tie.separate is None:
    raise ConfigError(
      f'{tie.name} and {tie.other} differ, but mmjax has one parameter for '
      'both; make them equal, or leave the second out if nothing reads it'
    )
  if config.get('tie_word_embeddings') is not False:
    warnings.warn(
      f'config.json ties {tie.other} to {tie.name}, but the file holds two '
      'that differ; both are used, as transformers does',
      stacklevel=2,
    )
  return _merge(config, tie.separate)


def _merge(
  config: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
  """Changes fields of a config and of its sections; adds no section."""
  out = dict(config)
  for field, value in changes.items():
    if not isinstance(value, Mapping):
      out[field] = value
    elif isinstance(out.get(field), Mapping):
      out[field] = _merge(out[field], value)
  return out


def _are_equal(source: keys.Source, name: str, other: str) -> bool:
  if source.stored_name(name) == source.stored_name(other):
    return True
  if source.shape(name) != source.shape(other):
    return False
  return np.array_equal(source.read(name), source.read(other))
