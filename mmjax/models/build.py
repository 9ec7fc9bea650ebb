"""Models from plain data."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from mmjax import encoders
from mmjax import nn as mnn
from mmjax import types as types_lib
from mmjax.errors import ConfigError, choose, suggest
from mmjax.models import leftovers
from mmjax.models import parts as parts_lib
from mmjax.models.parts import NESTED, NESTED_DERIVED, PARTS, Part
from mmjax.models.sizes import DataSizes, OutputSpec, describe_media
from mmjax.models.tables import BUILT_IN, Tables

if typing.TYPE_CHECKING:
  from mmjax.data.features import Feature

_SPECIALS = ('bos_id', 'eos_id', 'pad_id')
_DERIVED = (
  'dtype',
  'parent',
  'name',
  'num_answers',
  'encoders',
  'encoder_inputs',
  'output_sizes',
  'target_feature',
  *('input_images', 'input_videos', 'input_sounds'),
  'sample_rate',
  'image_tokens',
  'embedded',
  'masked_heads',
  'category_sizes',
  *_SPECIALS,
)


def build(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  data: DataSizes,
  outputs: OutputSpec | None = None,
  *,
  dtype: Any = jnp.float32,
  tables: Tables = BUILT_IN,
) -> nn.Module:
  """Makes a model.

  Args:
    config: `name` (a key of `tables.models`), the model's own settings, and for
      each of its parts a mapping with a `name` and settings, or None to do
      without.
    data: what the data determines of the model.
    outputs: what the tasks need it to return; None for models without tasks
      over features.
    dtype: type of the computation.
    tables: the models and parts that a config can name.

  Raises:
    ConfigError: for an unknown name or setting, or a value of the wrong type or
      out of range; it names the field and the legal values.
  """
  outputs = outputs or OutputSpec()
  lengths = {
    'text_length': data.text_length,
    'question_length': data.question_length,
    'answer_length': data.answer_length,
  }
  derived = {
    'vocab_size': data.vocab_size,
    'num_answers': data.num_answers,
    'output_sizes': dict(outputs.sizes),
    'target_feature': outputs.text,
    **describe_media(data, outputs),
    'embedded': tuple(outputs.embedded),
    'masked_heads': dict(outputs.masked_heads),
    'dtype': jnp.dtype(dtype),
    **data.special_ids,
  }
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  if outputs.text:
    lengths = {'text_length': data.features[outputs.text].length}
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
        f'{suggest(name, known)}'
      )
    path = f'model.{name}'
    parts[name] = _build_part(part, chosen, path, derived, lengths, tables)
  lacks_decoder = 'target_feature' in _fields_of(cls) and 'decoder' not in parts
  if outputs.text and lacks_decoder:
    raise ConfigError(
      f'a task writes {outputs.text!r}, for which {cls.__name__} needs '
      'model.decoder'
    )
  if 'encoders' in _fields_of(cls):
    parts |= _build_encoders(
      settings.pop('encoders', None) or {}, data.features, derived, tables
    )
  return _make(cls, settings, 'model', derived, parts)


def _build_encoders(
  settings: Mapping[str, Mapping[str, Any]],
  features: Mapping[str, 'Feature'],
  derived: Mapping[str, Any],
  tables: Tables,
) -> dict[str, Any]:
  """Makes the encoders of features, and what they read."""
  inputs = parts_lib.find_encoder_inputs({'encoders': settings})
  built = {}
  for name, chosen in settings.items():
    path = f'model.encoders.{name}'
    for feature in inputs[name]:
      if feature not in features:
        raise ConfigError(
          f'{path} reads the feature {feature!r}, but there are '
          f'{", ".join(features) or "none"}; add it to data.features, or name '
          f'another with {path}.inputs'
        )
    chosen = {key: v for key, v in chosen.items() if key != 'inputs'}
    read = [features[feature] for feature in inputs[name]]
    built[name] = _build_encoder(chosen, path, read, derived, tables)
  return {'encoders': built, 'encoder_inputs': inputs}


def _build_encoder(
  settings: dict[str, Any],
  path: str,
  read: Sequence['Feature'],
  derived: Mapping[str, Any],
  tables: Tables,
) -> nn.Module:
  kinds = {parts_lib.ENCODER_PARTS.get(feature.encoded_as) for feature in read}
  if len(kinds) > 1 or (len(read) > 1 and kinds != {'table'}):
    raise ConfigError(
      f'{path}.inputs={[feature.name for feature in read]} is not legal: only '
      'numbers, vectors and classes are read together, as the row of a table'
    )
  part = kinds.pop()
  if part is None:
    raise ConfigError(
      f'{path} reads a feature of the kind {read[0].kind}, for which there are '
      'no encoders'
    )
  _check_kind(settings.get('name'), path, read[0], part, tables)
  spectrogram = settings.pop('spectrogram', None)
  if spectrogram is not None and part != 'sound':
    raise ConfigError(f'{path}.spectrogram is for sounds only; remove it')
  more = _describe_inputs(read, part, spectrogram or {})
  if isinstance(settings.get('image'), Mapping):
    # The encoder of a video's frames.
    inner = _build_part(
      tables.parts['image'],
      settings.pop('image'),
      f'{path}.image',
      derived,
      tables=tables,
    )
    cls = choose(
      settings.pop('name', None), tables.parts[part].classes, f'{path}.name'
    )
    return _make(cls, settings, path, {**derived, **more}, {'image': inner})
  derived = {**derived, **more}
  encoder = _build_part(
    tables.parts[part], settings, path, derived, tables=tables
  )
  if part != 'sound':
    return encoder
  return _make(
    encoders.FromSamples,
    dict(spectrogram or {}),
    f'{path}.spectrogram',
    {},
    {'sample_rate': read[0].rate, 'encoder': encoder},
  )


def _describe_inputs(
  read: Sequence['Feature'], part: str, spectrogram: Mapping[str, Any]
) -> dict[str, Any]:
  """The settings of an encoder that its inputs determine."""
  out: dict[str, Any] = {}
  length = getattr(read[0], 'length', 0)
  if part == 'text' and length:
    out['max_length'] = length
  if part == 'video':
    out['num_frames'] = read[0].number
  if part == 'sound':
    bands = encoders.FromSamples.num_mels
    out['num_bands'] = spectrogram.get('num_mels', bands)
  out['category_sizes'] = tuple(
    len(feature.classes or (0, 1))
    for feature in read
    if feature.kind == 'category' and not feature.multi_label
  )
  return out


def _check_kind(
  name: Any, path: str, feature: 'Feature', part: str, tables: Tables
) -> None:
  """Refuses an encoder of inputs of another kind."""
  classes = tables.parts[part].classes
  if name in tables.classes() and name not in classes:
    raise ConfigError(
      f'{path}.name={name!r} does not encode the feature {feature.name!r}, '
      f'which is of the kind {feature.kind}; use one of {", ".join(classes)}'
    )


def _build_part(
  part: Part,
  settings: Mapping[str, Any],
  path: str,
  derived: Mapping[str, Any],
  lengths: Mapping[str, int] = MappingProxyType({}),
  tables: Tables = BUILT_IN,
) -> nn.Module:
  settings = dict(settings)
  name = settings.pop('name', None)
  cls = choose(name, part.classes, f'{path}.name')
  parts = {
    inner: _build_part(
      tables.parts[inner],
      settings.pop(inner),
      f'{path}.{inner}',
      derived,
      lengths,
      tables,
    )
    for inner in sorted(set(tables.parts) & set(_fields_of(cls)))
    if isinstance(settings.get(inner), Mapping)
  }
  legal_of = lambda other: _legal_settings(_fields_of(other))
  leftovers.check(path, name, settings, part.classes, legal_of, derived)
  longest = max((lengths.get(name, 0) for name in part.lengths), default=0)
  derived = {**derived, **({'max_length': longest} if longest else {})}
  return _make(cls, settings, path, derived, parts)


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
    for field, info in types_lib.list_field_info(cls).items()
    if info.training_only
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
        f'{suggest(name, legal)}'
      )
    types_lib.check_value(f'{where}.{name}', value, hints[name])
    if name == 'vocab_size' and value < derived[name]:
      raise ConfigError(
        f"{where}.{name} is {value}, but the tokenizer's is {derived[name]}; "
        'leave it out, or set data.tokenizer to the one that belongs to it'
      )
    if name in NESTED and isinstance(value, Mapping):
      derived_names = NESTED_DERIVED[name]
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
        f'{suggest(name, legal)}'
      )
    types_lib.check_value(f'{where}.{name}', value, hints[name])


def _freeze(value: Any) -> Any:
  """Converts containers to tuples and dicts, as Linen needs them."""
  if isinstance(value, Mapping):
    return {name: _freeze(v) for name, v in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(_freeze(v) for v in value)
  return value
