"""Models from plain data."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from mmjax import nn as mnn
from mmjax import types as types_lib
from mmjax.errors import ConfigError, choose
from mmjax.models.parts import PARTS, Part
from mmjax.models.tables import BUILT_IN, Tables

_SPECIALS = ('bos_id', 'eos_id', 'pad_id')
# Settings that are mappings -> their class, and its fields that `build` sets.
_NESTED = {
  'block': (mnn.Block, ('width', 'num_heads', 'mlp_dim', 'cross_attention')),
  'relative': (mnn.RelativePositions, ('num_heads', 'both_ways')),
}
_DERIVED = ('dtype', 'parent', 'name', 'num_answers', *_SPECIALS)


def build(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  *,
  vocab_size: int,
  text_length: int = 0,
  question_length: int = 0,
  answer_length: int = 0,
  num_answers: int = 0,
  special_ids: Mapping[str, int | None] | None = None,
  dtype: Any = jnp.float32,
  tables: Tables = BUILT_IN,
) -> nn.Module:
  """Makes a model.

  Args:
    config: `name` (a key of `tables.models`), the model's own settings, and for
      each of its parts a mapping with a `name` and settings, or None to do
      without.
    vocab_size: V of all text parts that don't set a larger one.
    text_length: length of the longest caption, the `max_length` of parts that
      get captions and don't set one.
    question_length: length of the longest question.
    answer_length: length of the longest answer.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    special_ids: the tokenizer's `bos_id`, `eos_id` and `pad_id`, for models
      that generate text.
    dtype: type of the computation.
    tables: the models and parts that a config can name.

  Raises:
    ConfigError: for an unknown name or setting, or a value of the wrong type or
      out of range; it names the field and the legal values.
  """
  lengths = {
    'text_length': text_length,
    'question_length': question_length,
    'answer_length': answer_length,
  }
  derived = {
    'vocab_size': vocab_size,
    'num_answers': num_answers,
    'dtype': jnp.dtype(dtype),
    **(special_ids or {}),
  }
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  settings = dict(config)
  cls = choose(settings.pop('name', None), tables.models, 'model.name')
  parts = {}
  for name, part in tables.parts.items():
    chosen = settings.pop(name, None)
    if chosen is None:
      continue
    if name not in _fields_of(cls):
      known = [part for part in tables.parts if part in _fields_of(cls)]
      raise ConfigError(
        f'model.{name} is unknown; {cls.__name__} has the parts {known}'
      )
    parts[name] = _build_part(part, chosen, f'model.{name}', derived, lengths)
  return _make(cls, settings, 'model', derived, parts)


def _build_part(
  part: Part,
  settings: Mapping[str, Any],
  path: str,
  derived: Mapping[str, Any],
  lengths: Mapping[str, int],
) -> nn.Module:
  settings = dict(settings)
  cls = choose(settings.pop('name', None), part.classes, f'{path}.name')
  longest = max((lengths[length] for length in part.lengths), default=0)
  derived = {**derived, **({'max_length': longest} if longest else {})}
  return _make(cls, settings, path, derived)


def describe(module: nn.Module, tables: Tables = BUILT_IN) -> dict[str, Any]:
  """Returns the settings from which `build` makes a module.

  Args:
    module: a model or a part of `tables`.
    tables: the models and parts that a config can name.

  Returns:
    The module's `name`, and the fields that are not at their defaults.

  Raises:
    ConfigError: if `build` does not know the module's class.
  """
  names = {cls: name for name, cls in tables.classes().items()}
  if type(module) not in names:
    raise ConfigError(
      f'{type(module).__name__} is not a model that a config can name; those '
      f'are {", ".join(cls.__name__ for cls in names)}'
    )
  out: dict[str, Any] = {'name': names[type(module)]}
  for name, field in _fields_of(type(module)).items():
    value = getattr(module, name)
    if name in _DERIVED or value == field.default:
      continue
    out[name] = (
      describe(value, tables)
      if isinstance(value, nn.Module)
      else _freeze(value)
    )
  return out


def settings_of(name: str, tables: Tables = BUILT_IN) -> dict[str, Any]:
  """Returns the settings of a model or part that `build` knows by a name.

  Args:
    name: name of a model or part of `tables`.
    tables: the models and parts that a config can name.

  Returns:
    Each setting's default, `dataclasses.MISSING` where it has none; without
    the parts.

  Raises:
    ConfigError: for an unknown name.
  """
  fields = _fields_of(
    choose(name, tables.classes(), 'the name of a model or part')
  )
  return {key: fields[key].default for key in _legal_settings(fields)}


def training_settings(name: str, tables: Tables = BUILT_IN) -> list[str]:
  """Names of the settings that have an effect only in training.

  Args:
    name: name of a model or part of `tables`, or 'block'.
    tables: the models and parts that a config can name.
  """
  cls = mnn.Block if name == 'block' else tables.classes()[name]
  return [
    field
    for field, setting in types_lib.settings_of_class(cls).items()
    if setting.training_only
  ]


def _fields_of(cls: type) -> dict[str, dataclasses.Field]:
  return {
    field.name: field
    for field in dataclasses.fields(cls)
    if field.init and field.name not in ('parent', 'name')
  }


def _legal_settings(fields: Iterable[str]) -> list[str]:
  return sorted(set(fields) - set(_DERIVED) - set(PARTS))


def _make(
  cls: type,
  settings: Mapping[str, Any],
  where: str,
  derived: Mapping[str, Any],
  parts: Mapping[str, nn.Module] | None = None,
) -> nn.Module:
  """Checks settings against a module's fields and makes the module."""
  fields, parts = _fields_of(cls), dict(parts or {})
  hints = typing.get_type_hints(cls, include_extras=True)
  legal = _legal_settings(fields)
  for name, value in settings.items():
    if name not in legal:
      raise ConfigError(
        f'{where}.{name} is unknown; {cls.__name__} has {legal}'
      )
    types_lib.check_value(f'{where}.{name}', value, hints[name])
    if name == 'vocab_size' and value < derived[name]:
      raise ConfigError(
        f"{where}.{name} is {value}, but the tokenizer's is {derived[name]}; "
        'leave it out, or set data.tokenizer to the one that belongs to it'
      )
    if name in _NESTED and isinstance(value, Mapping):
      _check_nested(value, f'{where}.{name}', *_NESTED[name])
  chosen = {name: v for name, v in derived.items() if name in fields}
  chosen |= {name: _freeze(value) for name, value in settings.items()} | parts
  missing = [
    name
    for name, field in fields.items()
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
    and name not in chosen
  ]
  if missing:
    raise ConfigError(
      f'{where}.{missing[0]} is missing; {cls.__name__} needs {missing}'
    )
  return cls(**chosen)


def _check_nested(
  settings: Mapping[str, Any], where: str, cls: type, derived: Sequence[str]
) -> None:
  legal = sorted(set(_fields_of(cls)) - set(_DERIVED) - set(derived))
  hints = typing.get_type_hints(cls, include_extras=True)
  for name, value in settings.items():
    if name not in legal:
      raise ConfigError(
        f'{where}.{name} is unknown; a {cls.__name__} has {legal}'
      )
    types_lib.check_value(f'{where}.{name}', value, hints[name])


def _freeze(value: Any) -> Any:
  """Converts containers to tuples and dicts, as Linen needs them."""
  if isinstance(value, Mapping):
    return {name: _freeze(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(_freeze(v) for v in value)
  return value
