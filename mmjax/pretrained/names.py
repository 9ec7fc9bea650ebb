"""Which name of the key table each tensor of a checkpoint has.

Files differ from the key table of their family in known ways: older releases'
names, a wrapper's or a larger model's prefix, tied tensors of which any one is
kept. Here they are brought to the table's names; what stays unknown is refused
where the parameters are loaded.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, keys, mismatches

# What torch.compile, FSDP and activation checkpointing put in front of a part.
_WRAPPERS = re.compile(
  r'(?:(?<=\.)|^)'
  r'(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.'
)
# What DataParallel puts in front of the whole model.
_PARALLEL = 'module.'


@dataclasses.dataclass(frozen=True)
class Tie:
  """Two names of tensors that are one where a model ties them.

  Attributes:
    name: the one that the key table has.
    other: the one that it lacks while they are tied.
    separate: what config.json says where they are two, by field and section;
      None if mmjax has one parameter for both.
  """

  name: str
  other: str
  separate: Mapping[str, Any] | None = None

  def prefixed(self, prefix: str, section: str = '') -> 'Tie':
    """The tie of a part of a larger model, whose config is in `section`."""
    separate = self.separate
    if section and separate is not None:
      separate = {section: separate}
    return Tie(prefix + self.name, prefix + self.other, separate)


def head(embedding: str, matrix: str = 'lm_head.weight') -> Tie:
  """The tie of a language model's embedding and its output matrix."""
  return Tie(embedding, matrix, {'tie_word_embeddings': False})


class Named:
  """A checkpoint's tensors under other names than in its files.

  Attributes:
    names: of all tensors.
  """

  def __init__(
    self, source: keys.Source, theirs: Mapping[str, str] | None = None
  ):
    """Takes a source, and by each new name the source's; None for the same."""
    self._source = source
    self._theirs = dict(theirs or {name: name for name in source.names})
    self.names = frozenset(self._theirs)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return self._source.shape(self._theirs[name])

  def read(self, name: str) -> np.ndarray:
    """One tensor, in the type that it is stored in."""
    return self._source.read(self._theirs[name])

  def stored(self, name: str) -> str:
    """The name that the file has for a tensor."""
    return self._source.stored(self._theirs[name])

  def renamed(self, rename: Callable[[str], str]) -> 'Named':
    """The same tensors, each under the name that `rename` makes of its own.

    Raises:
      ConfigError: if tensors that differ get one name.
    """
    theirs: dict[str, str] = {}
    for old in sorted(self.names):
      name = rename(old)
      before = theirs.setdefault(name, self._theirs[old])
      if before != self._theirs[old] and not _equal(
        self._source, before, self._theirs[old]
      ):
        raise ConfigError(
          f'{before} and {self._theirs[old]} both name {name}, but they '
          'differ; keep the one that belongs to the model'
        )
    return Named(self._source, theirs)

  def without(self, names: Iterable[str]) -> 'Named':
    """The same tensors but some."""
    gone = set(names)
    theirs = {k: v for k, v in self._theirs.items() if k not in gone}
    return Named(self._source, theirs)


def unwrapped(source: Named) -> Named:
  """Tensors without the prefixes that training libraries add.

  >>> _WRAPPERS.sub('', 'module.encoder._orig_mod.layer.0.weight')
  'module.encoder.layer.0.weight'
  """
  source = source.renamed(lambda name: _WRAPPERS.sub('', name))
  while source.names and all(n.startswith(_PARALLEL) for n in source.names):
    source = source.renamed(lambda name: name.removeprefix(_PARALLEL))
  return source


def modern(source: Named, aliases: Sequence[tuple[str, str]]) -> Named:
  """Tensors under the names that a newer release of their family has.

  Args:
    source: the tensors.
    aliases: patterns and what their matches become, in order. Only what a
      pattern matches at the beginning of a name is replaced.
  """

  def rename(name: str) -> str:
    for pattern, new in aliases:
      name = re.sub(f'^(?:{pattern})', new, name)
    return name

  return source.renamed(rename)


def aligned(
  source: Named,
  table: Sequence[str],
  others: Sequence[str],
  prefixes: Sequence[str],
) -> Named:
  """Tensors with the prefix of the whole model where the table has it.

  A model alone and the same as the base of a larger one differ in it: BERT is
  'encoder.layer.0' alone, and 'bert.encoder.layer.0' below a head.

  Args:
    source: the tensors.
    table: patterns of the names in the key table.
    others: patterns of other names that the family knows.
    prefixes: those that a name may have or lack, with their dots.
  """
  known = [
    re.compile('|'.join(f'(?:{one})' for one in group))
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
        one for pattern in known for one in candidates if pattern.fullmatch(one)
      ),
      name,
    )

  return source.renamed(rename)


def patterns(rules: Sequence[keys.Rule]) -> list[str]:
  """Patterns of the names that a key table has."""
  layer = re.escape(keys.LAYER)
  return [re.escape(rule.theirs).replace(layer, r'\d+') for rule in rules]


def used(
  source: Named,
  config: Mapping[str, Any],
  unused: Mapping[str, Sequence[str]],
) -> Named:
  """Tensors without those that the class in config.json does not have.

  A file may have the head of another class, as transformers lets it.

  Args:
    source: the tensors.
    config: all of config.json.
    unused: patterns of such names by class; the first is meant where
      config.json names none.
  """
  if not unused:
    return source
  name = configs.architecture(config, *unused)
  pattern = re.compile('|'.join(f'(?:{one})' for one in unused[name]))
  gone = sorted(filter(pattern.fullmatch, source.names))
  if gone:
    warnings.warn(
      f'the file has tensors that {name}, the class in config.json, does not '
      f'read; they are left out, as transformers does: {mismatches.few(gone)}',
      stacklevel=2,
    )
  return source.without(gone)


def untied(
  source: Named,
  config: Mapping[str, Any],
  rules: Callable[[Mapping[str, Any]], list[keys.Rule]],
  ties: Sequence[Tie],
) -> tuple[Named, Mapping[str, Any]]:
  """Tensors and config, agreeing in which of them are tied.

  As transformers does: of two tied tensors either may be there; equal ones are
  one; and where they differ, they are two, whatever config.json says.

  Args:
    source: the tensors.
    config: all of config.json.
    rules: the family's key table of a config.
    ties: what the family may tie.

  Raises:
    ConfigError: if tensors differ that mmjax has one parameter for.
  """
  for tie in ties:
    table = {rule.theirs for rule in rules(config)}
    if tie.name not in table or tie.other in table:
      continue
    if tie.other not in source.names:
      continue
    if tie.name not in source.names:
      new = {tie.other: tie.name}
      source = source.renamed(lambda name, new=new: new.get(name, name))
    elif _equal(source, tie.name, tie.other):
      source = source.without([tie.other])
    else:
      config = _separated(config, tie)
  return source, config


def _separated(config: Mapping[str, Any], tie: Tie) -> Mapping[str, Any]:
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
  return _merged(config, tie.separate)


def _merged(
  config: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
  """A config with changes, also in its sections; those it lacks stay away."""
  out = dict(config)
  for field, value in changes.items():
    if not isinstance(value, Mapping):
      out[field] = value
    elif isinstance(out.get(field), Mapping):
      out[field] = _merged(out[field], value)
  return out


def _equal(source: keys.Source, one: str, other: str) -> bool:
  if source.stored(one) == source.stored(other):
    return True
  if source.shape(one) != source.shape(other):
    return False
  return np.array_equal(source.read(one), source.read(other))
