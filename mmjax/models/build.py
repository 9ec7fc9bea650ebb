"""Models from plain data.

The dicts below are the only place where names become classes.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from mmjax import decoders, encoders, fusion
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.models import (
  contrastive_captioner,
  dual_encoder,
  encoder_decoder,
  image_first,
)

IMAGE_ENCODERS = {
  'vit': encoders.ViT,
  'resnet': encoders.ResNet,
  'efficientnet': encoders.EfficientNet,
  'flexible_vit': encoders.FlexibleViT,
  'packed_vit': encoders.PackedViT,
}
TEXT_ENCODERS = {
  'transformer': encoders.Transformer,
  'recurrent': encoders.Recurrent,
}
FUSIONS = {
  'concat': fusion.Concat,
  'cross_attention': fusion.CrossAttention,
  'gated': fusion.Gated,
}
DECODERS = {'text': decoders.TextDecoder}
PROJECTORS = {
  'mlp': mnn.Mlp,
  'linear': mnn.Linear,
  'query_transformer': encoders.QueryTransformer,
}
MODELS = {
  'dual_encoder': dual_encoder.DualEncoder,
  'encoder_decoder': encoder_decoder.EncoderDecoder,
  'contrastive_captioner': contrastive_captioner.ContrastiveCaptioner,
  'vision_language': image_first.ImageFirstVisionLanguage,
}
PARTS = {
  'image': IMAGE_ENCODERS,
  'vision': IMAGE_ENCODERS,
  'projector': PROJECTORS,
  'text': TEXT_ENCODERS,
  'question': TEXT_ENCODERS,
  'encoder': {'transformer': encoders.Transformer},
  'fusion': FUSIONS,
  'decoder': DECODERS,
}
_SPECIALS = ('bos_id', 'eos_id', 'pad_id')
# Settings that are settings of a module, and its fields that `build` sets.
_NESTED = {
  'block': (mnn.Block, ('width', 'num_heads', 'mlp_dim', 'cross_attention')),
  'relative': (mnn.RelativePositions, ('num_heads', 'both_ways')),
}
# Settings, by name, that are probabilities, or more than 0.
_PROBABILITIES = ('attention_dropout', 'drop_path', 'dropout', 'word_dropout')
_POSITIVE = (
  *('buckets', 'embed_dim', 'frames', 'head_dim', 'max_distance', 'max_length'),
  *('merge', 'mlp_dim', 'num_heads', 'num_kv_heads', 'number', 'out_width'),
  *('patch_size', 'stem_width', 'vocab_size', 'width'),
  *('logit_scale_init', 'logit_scale_max', 'norm_epsilon', 'rope_theta'),
)
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
    vocab_size: V, of all text parts that don't set a larger one.
    text_length: longest caption, the `max_length` of parts that get captions
      and don't set one.
    question_length: longest question.
    answer_length: longest answer.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    special_ids: the tokenizer's `bos_id`, `eos_id` and `pad_id`, for models
      that write.
    dtype: of the computation.

  Raises:
    ConfigError: for an unknown name or setting, or a value of the wrong type or
      out of range; it names the field and what would be legal.
  """
  lengths = {
    'text': text_length,
    'question': question_length,
    'decoder': max(text_length, question_length, answer_length),
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
  cls = _pick(MODELS, settings.pop('name', None), 'model.name')
  parts = {}
  for part, choices in PARTS.items():
    of_part = settings.pop(part, None)
    if of_part is None:
      continue
    if part not in _fields(cls):
      has = [name for name in PARTS if name in _fields(cls)]
      raise ConfigError(
        f'model.{part} is unknown; {cls.__name__} has the parts {has}'
      )
    of_part = dict(of_part)
    where = f'model.{part}'
    part_cls = _pick(choices, of_part.pop('name', None), f'{where}.name')
    if lengths.get(part):
      derived_part = {**derived, 'max_length': lengths[part]}
    else:
      derived_part = derived
    parts[part] = _make(part_cls, of_part, where, derived_part)
  return _make(cls, settings, 'model', derived, parts)


def describe(module: nn.Module) -> dict[str, Any]:
  """The settings from which `build` makes a module again.

  Args:
    module: a model of `MODELS` or a part of `PARTS`.

  Returns:
    Its `name` and the fields that are not at their defaults.

  Raises:
    ConfigError: if `build` does not know such modules.
  """
  names = {
    cls: name
    for choices in (MODELS, *PARTS.values())
    for name, cls in choices.items()
  }
  if type(module) not in names:
    raise ConfigError(
      f'{type(module).__name__} is not a model that a config can name; those '
      f'are {", ".join(cls.__name__ for cls in names)}'
    )
  out: dict[str, Any] = {'name': names[type(module)]}
  for name, field in _fields(type(module)).items():
    value = getattr(module, name)
    if name in _DERIVED or value == field.default:
      continue
    out[name] = (
      describe(value) if isinstance(value, nn.Module) else _plain(value)
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
  known = {k: v for each in (MODELS, *PARTS.values()) for k, v in each.items()}
  if name not in known:
    raise ConfigError(
      f'{name!r} is not a model or part that a config can name; use one of '
      f'{list(known)}'
    )
  fields = _fields(known[name])
  return {key: fields[key].default for key in _legal(fields)}


def _pick(choices: Mapping[str, type], name: Any, field: str) -> type:
  if name not in choices:
    raise ConfigError(
      f'{field} {name!r} is unknown; use one of {list(choices)}'
    )
  return choices[name]


def _fields(cls: type) -> dict[str, dataclasses.Field]:
  return {
    field.name: field
    for field in dataclasses.fields(cls)
    if field.init and field.name not in ('parent', 'name')
  }


def _legal(fields: Iterable[str]) -> list[str]:
  return sorted(set(fields) - set(_DERIVED) - set(PARTS))


def _make(
  cls: type,
  settings: Mapping[str, Any],
  where: str,
  derived: Mapping[str, Any],
  parts: Mapping[str, nn.Module] | None = None,
) -> nn.Module:
  """Checks settings against a module's fields and makes the module."""
  fields, parts = _fields(cls), dict(parts or {})
  hints = typing.get_type_hints(cls)
  legal = _legal(fields)
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
    if name in _NESTED and isinstance(value, Mapping):
      _check_nested(value, f'{where}.{name}', *_NESTED[name])
  chosen = {name: v for name, v in derived.items() if name in fields}
  chosen |= {name: _plain(value) for name, value in settings.items()} | parts
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
  settings: Mapping[str, Any], where: str, cls: type, given: Sequence[str]
) -> None:
  legal = sorted(set(_fields(cls)) - set(_DERIVED) - set(given))
  hints = typing.get_type_hints(cls)
  for name, value in settings.items():
    if name not in legal:
      raise ConfigError(
        f'{where}.{name} is unknown; a {cls.__name__} has {legal}'
      )
    _check_value(f'{where}.{name}', value, hints[name])


def _check_value(field: str, value: Any, hint: Any) -> None:
  _check_type(field, value, hint)
  if not isinstance(value, int | float) or isinstance(value, bool):
    return
  name = field.rpartition('.')[2]
  if name in _PROBABILITIES and not 0 <= value < 1:
    raise ConfigError(
      f'{field} must be at least 0 and less than 1, got {value}'
    )
  if name in _POSITIVE and not value > 0:
    raise ConfigError(f'{field} must be more than 0, got {value}')
  # Layers are counted from the end, too.
  if isinstance(value, int) and value < 0 and name != 'layer':
    raise ConfigError(f'{field} must be at least 0, got {value}')


def _check_type(field: str, value: Any, hint: Any) -> None:
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    options = typing.get_args(hint)
  else:
    options = (hint,)
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
    f'{field} must be {names}, got {value!r} ({type(value).__name__})'
  )


def _plain(value: Any) -> Any:
  """Config containers as tuples and dicts, which Linen can hash and freeze."""
  if isinstance(value, Mapping):
    return {name: _plain(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(_plain(v) for v in value)
  return value
