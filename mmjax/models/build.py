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
from mmjax.models import (
  contrastive_captioner,
  dual_encoder,
  encoder_decoder,
  image_first,
)
from mmjax.models.parts import PARTS, Part

MODELS = {
  'dual_encoder': dual_encoder.DualEncoder,
  'encoder_decoder': encoder_decoder.EncoderDecoder,
  'contrastive_captioner': contrastive_captioner.ContrastiveCaptioner,
  'vision_language': image_first.ImageFirstVisionLanguage,
}
_SPECIALS = ('bos_id', 'eos_id', 'pad_id')
# Settings that are mappings -> their class.
NESTED = {'block': mnn.Block, 'relative': mnn.RelativePositions}
# Fields of these classes that `build` sets.
_NESTED_DERIVED = {
  'block': ('width', 'num_heads', 'mlp_dim', 'cross_attention'),
  'relative': ('num_heads', 'both_ways'),
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
) -> nn.Module:
  """Makes a model.

  Args:
    config: `name` (a key of `MODELS`), the model's own settings, and for each
      of its parts a mapping with a `name` and settings, or None to do without.
    vocab_size: V of all text parts that don't set a larger one.
    text_length: length of the longest caption, the `max_length` of parts that
      get captions and don't set one.
    question_length: length of the longest question.
    answer_length: length of the longest answer.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    special_ids: the tokenizer's `bos_id`, `eos_id` and `pad_id`, for models
      that generate text.
    dtype: type of the computation.

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
  cls = choose(settings.pop('name', None), MODELS, 'model.name')
  parts = {}
  for name, part in PARTS.items():
    chosen = settings.pop(name, None)
    if chosen is None:
      continue
    if name not in _fields_of(cls):
      known = [part for part in PARTS if part in _fields_of(cls)]
      raise ConfigError(
        f'model.{name} is unknown; {cls.__name__} has the parts {known}'
      )
    longest = max((lengths[length] for length in part.lengths), default=0)
    derived_part = derived | ({'max_length': longest} if longest else {})
    parts[name] = _build_part(part, chosen, f'model.{name}', derived_part)
  return _make(cls, settings, 'model', derived, parts)


def _build_part(
  part: Part,
  settings: Mapping[str, Any],
  path: str,
  derived: Mapping[str, Any],
) -> nn.Module:
  settings = dict(settings)
  cls = choose(settings.pop('name', None), part.classes, f'{path}.name')
  return _make(cls, settings, path, derived)


def describe(module: nn.Module) -> dict[str, Any]:
  """Returns the settings from which `build` makes a module.

  Args:
    module: a model of `MODELS` or a part of `PARTS`.

  Returns:
    The module's `name`, and the fields that are not at their defaults.

  Raises:
    ConfigError: if `build` does not know the module's class.
  """
  names = {cls: name for name, cls in classes().items()}
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
      describe(value) if isinstance(value, nn.Module) else _freeze(value)
    )
  return out


def settings_of(name: str) -> dict[str, Any]:
  """Returns the settings of a model or part that `build` knows by a name.

  Args:
    name: a key of `MODELS`, or of one of the `PARTS`.

  Returns:
    Each setting's default, `dataclasses.MISSING` where it has none; without
    the parts.

  Raises:
    ConfigError: for an unknown name.
  """
  fields = _fields_of(choose(name, classes(), 'the name of a model or part'))
  return {key: fields[key].default for key in _legal_settings(fields)}


def training_settings(name: str) -> list[str]:
  """Names of the settings that have an effect only in training.

  Args:
    name: a key of `MODELS` or of one of the `PARTS`, or 'block'.
  """
  cls = mnn.Block if name == 'block' else classes()[name]
  return [
    field
    for field, setting in types_lib.settings_of_class(cls).items()
    if setting.training_only
  ]


def classes() -> dict[str, type]:
  """All module classes that a config can name, by name."""
  tables = MODELS, *(part.classes for part in PARTS.values())
  return {name: cls for table in tables for name, cls in table.items()}


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
    _check_value(f'{where}.{name}', value, hints[name])
    if name == 'vocab_size' and value < derived[name]:
      raise ConfigError(
        f"{where}.{name} is {value}, but the tokenizer's is {derived[name]}; "
        'leave it out, or set data.tokenizer to the one that belongs to it'
      )
    if name in NESTED and isinstance(value, Mapping):
      derived_names = _NESTED_DERIVED[name]
      _check_nested(value, f'{where}.{name}', NESTED[name], derived_names)
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
    _check_value(f'{where}.{name}', value, hints[name])


def _check_value(path: str, value: Any, hint: Any) -> None:
  _check_type(path, value, types_lib.alternatives(hint))
  if isinstance(value, int | float) and not isinstance(value, bool):
    fault = types_lib.setting_of(hint).fault(value)
    if fault:
      raise ConfigError(f'{path} {fault}, got {value}')


def _check_type(path: str, value: Any, options: Sequence[Any]) -> None:
  for option in options:
    if option is Any:
      return
    kind = typing.get_origin(option) or option
    if kind is float and type(value) in (int, float):
      return
    if kind in (int, bool, str, type(None)) and type(value) is kind:
      return
    if kind is Sequence and isinstance(value, (list, tuple)):
      return
    if kind is Mapping and isinstance(value, Mapping):
      return
  names = ' or '.join(getattr(o, '__name__', str(o)) for o in options)
  raise ConfigError(
    f'{path} must be {names}, got {value!r} ({type(value).__name__})'
  )


def _freeze(value: Any) -> Any:
  """Converts containers to tuples and dicts, as Linen needs them."""
  if isinstance(value, Mapping):
    return {name: _freeze(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(_freeze(v) for v in value)
  return value
