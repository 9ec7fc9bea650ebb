"""Reading a Hugging Face config.json: every value is taken or refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import kinds

# Their names of activations, and ours (`mmjax.nn.mlp.ACTIVATIONS`).
ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
  'tanh': 'tanh',
}

# Where a config or a part of one names the type of the tensors: what today's
# releases write, and what older ones did.
DTYPES = ('dtype', 'torch_dtype')
# What may stand for a default of some type, where it is not that type alone.
_KINDS = {float: (int, float), type(None): (int, type(None))}
# Fields that hold objects.
_PARTS = (
  'text_config',
  'vision_config',
  'qformer_config',
  'rope_parameters',
  'rope_scaling',
  'image_processor',
  'feature_extractor',
  'audio_processor',
  'video_processor',
)
# How deep objects lie in each other.
_DEPTH = 8
# Largest whole number, as arrays of ids have it.
_LARGEST = 2**31 - 1
# Whole numbers that may be below 1 though their default is not.
_NUMBERED = ('_id', '_index')
# Settings of rotary positions by their kind: ours, and theirs.
_SCALED = {
  'linear': {'factor': 'factor'},
  'llama3': {
    'factor': 'factor',
    'low': 'low_freq_factor',
    'high': 'high_freq_factor',
    'length': 'original_max_position_embeddings',
  },
}


def read(path: Path) -> dict[str, Any]:
  """The object that a small JSON file holds, see `parsed`."""
  return parsed(path.read_bytes(), path)


def parsed(content: bytes, name: Path | str, kind: type = dict) -> Any:
  """What a small JSON file holds.

  Args:
    content: of the file.
    name: of the file, for errors.
    kind: what it has to hold, an object unless it is said.

  Raises:
    ConfigError: if it is broken, or holds something else, or has something else
      where a part belongs, such as `text_config`.
  """
  try:
    given = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise ConfigError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error
  if not isinstance(given, kind):
    raise ConfigError(
      f'{name} holds {_short(given)}, not '
      f'{"an object" if kind is dict else "a list"}; download it again'
    )
  _check_parts(given, name)
  return given


def _check_parts(given: Any, name: Path | str, depth: int = 0) -> None:
  if depth > _DEPTH:
    raise ConfigError(
      f'{name} has parts in parts, {_DEPTH} deep; download it again'
    )
  for field, value in given.items() if isinstance(given, dict) else ():
    if field not in _PARTS:
      continue
    if not isinstance(value, dict | None):
      raise ConfigError(
        f'{name}: {field} is {_short(value)}, not an object; download it again'
      )
    _check_parts(value, name, depth + 1)


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'


def section(
  config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """One part of a config, with what transformers takes where it is silent.

  Args:
    config: all of config.json.
    name: the part's key; '' for the whole.
    defaults: values of the fields that are read; where one is None, a whole
      number may stand in its place.

  Raises:
    ConfigError: if a field has no value of its default's kind, or a size is
      below 1.
  """
  given = (config.get(name) or {}) if name else config
  out = {}
  for field, default in defaults.items():
    value = given.get(field, default)
    kind = _KINDS.get(type(default), type(default))
    where = f'{name}.{field}' if name else field
    wrong = not isinstance(value, kind)
    wrong |= isinstance(value, bool) != isinstance(default, bool)
    wrong |= type(value) is float and not math.isfinite(value)
    if isinstance(default, list):
      wrong |= not kinds.is_list_like(value, default)
    if wrong:
      raise ConfigError(
        f'config.json: {where} is {value!r}; mmjax reads only '
        f'{"int or null" if default is None else type(default).__name__} here'
      )
    is_size = (
      type(value) is int
      and (default is None or default > 0)
      and not field.endswith(_NUMBERED)
    )
    if type(value) is int and abs(value) > _LARGEST:
      raise ConfigError(
        f'config.json: {where} is {_short(value)}; mmjax reads only numbers '
        f'up to {_LARGEST} here'
      )
    if is_size and value < 1:
      raise ConfigError(
        f'config.json: {where} is {value}; mmjax reads only 1 and more here'
      )
    out[field] = value
  return out


def with_dtype(config: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """A config that names the type of the tensors beside it, in all its parts.

  transformers casts what it reads to the type that config.json names.

  Args:
    config: all of config.json, or a part.
    dtype: of the tensors.
  """
  name = np.dtype(dtype).name

  def renamed(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
      key: name
      if key in DTYPES
      else renamed(value)
      if isinstance(value, Mapping)
      else value
      for key, value in part.items()
    }

  out = renamed(config)
  return out if any(key in out for key in DTYPES) else {**out, DTYPES[0]: name}


def labels(config: Mapping[str, Any]) -> list[str]:
  """Names of a classifier's classes, in order; 2 where nothing is said."""
  names = config.get('id2label')
  if not names:
    return [f'LABEL_{i}' for i in range(config.get('num_labels') or 2)]
  return [names[key] for key in sorted(names, key=int)]


def activation(name: str, field: str = 'hidden_act') -> str:
  """Our name of an activation, theirs being the value of a field.

  Raises:
    ConfigError: if it is unknown.
  """
  if name not in ACTIVATIONS:
    raise ConfigError(
      f'config.json: {field} is {name!r}; mmjax knows {sorted(ACTIVATIONS)}'
    )
  return ACTIVATIONS[name]


def refuse(
  section: Mapping[str, Any],
  where: str = '',
  file: str = 'config.json',
  /,
  **only: Any,
) -> None:
  """Refuses values that mmjax doesn't know.

  Args:
    section: a config or a part of one.
    where: the part's name with a dot behind it, for errors.
    file: its file's name, for errors.
    **only: by field, the one value that is read; a missing field has it, and
      so has null, unless the value is True.

  Raises:
    ConfigError: if a field has another.
  """
  for field, value in only.items():
    given = section.get(field, value)
    if given != value and (given is not None or value is True):
      raise ConfigError(
        f'{file}: {where}{field} is {section[field]!r}; mmjax reads only '
        f'{value!r} here'
      )


def architecture(config: Mapping[str, Any], *known: str) -> str:
  """Which of its family's models a checkpoint is.

  Args:
    config: all of config.json.
    *known: classes of transformers; the first is meant where none is given.

  Raises:
    ConfigError: if it is of another class.
  """
  given = config.get('architectures') or known
  for name in given:
    if name in known:
      return name
  raise ConfigError(
    f'config.json: architectures is {list(given)}; of this family mmjax knows '
    f'{", ".join(known)}'
  )


def rotary(section: Mapping[str, Any], theta: float = 1e4) -> dict[str, Any]:
  """Settings of `mmjax.nn.Block` for rotary positions.

  Reads `rope_parameters`, and what older releases have in its place,
  `rope_theta` and `rope_scaling`.

  Args:
    section: a config or a part of one.
    theta: what transformers takes where the config is silent.

  Raises:
    ConfigError: for frequencies that mmjax doesn't know, or that are not wholly
      given.
  """
  given = section.get('rope_parameters') or section.get('rope_scaling') or {}
  theta = given.get('rope_theta', section.get('rope_theta', theta))
  kind = given.get('rope_type', given.get('type', 'default'))
  part = given.get('partial_rotary_factor')
  part = section.get('partial_rotary_factor') if part is None else part
  if part not in (None, 1):
    raise ConfigError(
      f'config.json: partial_rotary_factor is {part!r}; mmjax reads only 1'
    )
  known = {'rope_theta', 'rope_type', 'type', 'partial_rotary_factor'}
  known |= {'mrope_section', *_SCALED.get(kind, {}).values()}
  unknown = sorted(set(given) - known)
  if kind in (*_SCALED, 'default', 'mrope') and unknown:
    raise ConfigError(
      f'config.json: rotary positions of rope_type {kind} have '
      f'{", ".join(unknown)}; mmjax knows {", ".join(sorted(known))}'
    )
  options: dict[str, Any] = {}
  if kind in _SCALED:
    options['scaling'] = {'kind': kind}
    for ours, theirs in _SCALED[kind].items():
      value = given.get(theirs)
      if type(value) not in (int, float) or value <= 0:
        raise ConfigError(
          f'config.json: {theirs} is {value!r}; rotary positions of rope_type '
          f'{kind} need a number above 0'
        )
      options['scaling'][ours] = value
  elif kind not in ('default', 'mrope'):
    raise ConfigError(
      f'config.json: rope_type is {kind!r}; mmjax knows default, linear, '
      'llama3 and mrope'
    )
  if given.get('mrope_section'):
    options['sections'] = tuple(given['mrope_section'])
  return {'rope_theta': float(theta), 'rope': options or None}
