"""Reads a Hugging Face config.json: every value is used or refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import config_types

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

# Keys that name the type of the tensors: of new releases, and of older ones.
DTYPES = ('dtype', 'torch_dtype')
# Types that are allowed where the default has a type; else that type alone.
_KINDS = {float: (int, float), type(None): (int, type(None))}
# Fields that hold objects.
_PARTS = (
  'text_config',
  'audio_config',
  'thinker_config',
  'vision_config',
  'vq_config',
  'qformer_config',
  'rope_parameters',
  'rope_scaling',
  'image_processor',
  'feature_extractor',
  'audio_processor',
  'video_processor',
)
# Largest depth of nested objects.
_DEPTH = 8
# Largest integer, since ids are int32.
_LARGEST = 2**31 - 1
# Endings of integer fields that may be below 1 though their default is not.
_NUMBERED = ('_id', '_index')
# Kind of rotary positions -> our names of its settings -> theirs.
_SCALED = {
  'linear': {'factor': 'factor'},
  'dynamic': {'factor': 'factor'},
  'llama3': {
    'factor': 'factor',
    'low': 'low_freq_factor',
    'high': 'high_freq_factor',
    'length': 'original_max_position_embeddings',
  },
}
# Ends of the names of language models, instead of `Model` of their bases.
_WRITERS = ('ForCausalLM', 'LMHeadModel')


def read(path: Path) -> dict[str, Any]:
  """Reads the object in a small JSON file; raises as `parse` does."""
  return parse(path.read_bytes(), path)


def parse(content: bytes, name: Path | str, kind: type = dict) -> Any:
  """Parses the contents of a small JSON file.

  Args:
    content: the bytes of the file.
    name: name of the file, for errors.
    kind: type of the value, dict or list.

  Raises:
    ConfigError: if the file is broken or holds another type, or if a part, such
      as `text_config`, is not an object.
  """
  try:
    value = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise ConfigError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error
  if not isinstance(value, kind):
    raise ConfigError(
      f'{name} holds {_shorten(value)}, not '
      f'{"an object" if kind is dict else "a list"}; download it again'
    )
  _check_parts(value, name)
  return value


def _check_parts(part: Any, name: Path | str, depth: int = 0) -> None:
  if depth > _DEPTH:
    raise ConfigError(
      f'{name} has parts in parts, {_DEPTH} deep; download it again'
    )
  for field, value in part.items() if isinstance(part, dict) else ():
    if field not in _PARTS:
      continue
    if not isinstance(value, dict | None):
      raise ConfigError(
        f'{name}: {field} is {_shorten(value)}, not an object; download it '
        'again'
      )
    _check_parts(value, name, depth + 1)


def _shorten(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'


def section(
  config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads one part of a config, with the defaults of transformers.

  Args:
    config: all of config.json.
    name: the part's key; '' for the top level.
    defaults: fields that are read, and their defaults; None stands for an
      optional integer.

  Raises:
    ConfigError: if a field has no value of its default's kind, or a size is
      below 1.
  """
  settings = (config.get(name) or {}) if name else config
  out = {}
  for field, default in defaults.items():
    value = settings.get(field, default)
    kind = _KINDS.get(type(default), type(default))
    where = f'{name}.{field}' if name else field
    wrong = not isinstance(value, kind)
    wrong |= isinstance(value, bool) != isinstance(default, bool)
    wrong |= type(value) is float and not math.isfinite(value)
    if isinstance(default, list):
      wrong |= not config_types.is_list_like(value, default)
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
        f'config.json: {where} is {_shorten(value)}; mmjax reads only numbers '
        f'up to {_LARGEST} here'
      )
    if is_size and value < 1:
      raise ConfigError(
        f'config.json: {where} is {value}; it should be at least 1'
      )
    out[field] = value
  return out


def set_dtype(config: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """Sets the type of the tensors in a config and all its parts.

  transformers casts the tensors that it loads to this type.

  Args:
    config: all of config.json, or a part.
    dtype: type of the tensors.
  """
  name = np.dtype(dtype).name

  def rename(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
      key: name
      if key in DTYPES
      else rename(value)
      if isinstance(value, Mapping)
      else value
      for key, value in part.items()
    }

  out = rename(config)
  return out if any(key in out for key in DTYPES) else {**out, DTYPES[0]: name}


def labels(config: Mapping[str, Any]) -> list[str]:
  """Names of a classifier's classes, in order; 2 by default."""
  names = config.get('id2label')
  if not names:
    return [f'LABEL_{i}' for i in range(config.get('num_labels') or 2)]
  return [names[key] for key in sorted(names, key=int)]


def activation(name: str, field: str = 'hidden_act') -> str:
  """Our name for the activation that a field of config.json names.

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
    where: name of the part with a dot at the end, for errors.
    file: name of the file, for errors.
    **only: field -> the only value that is allowed; a missing field is allowed,
      and so is null, unless the value is True.

  Raises:
    ConfigError: if a field has another value.
  """
  for field, value in only.items():
    actual = section.get(field, value)
    if actual != value and (actual is not None or value is True):
      raise ConfigError(
        f'{file}: {where}{field} is {section[field]!r}; mmjax reads only '
        f'{value!r} here'
      )


def architecture(config: Mapping[str, Any], *known: str) -> str:
  """Which of its family's models a checkpoint is.

  A language model is also known by the name of its base, such as `LlamaModel`:
  where the output matrix is the word table, the base is all of it. Otherwise
  loading finds that the matrix is missing.

  Args:
    config: all of config.json.
    *known: classes of transformers; the first is the default.

  Raises:
    ConfigError: if it is of another class.
  """
  names = config.get('architectures') or known
  writers = {
    f'{name.removesuffix(end)}Model': name
    for name in known
    for end in _WRITERS
    if name.endswith(end)
  }
  for name in names:
    if name in known:
      return name
    if name in writers:
      return writers[name]
  raise ConfigError(
    f'config.json: architectures is {list(names)}; of this family mmjax knows '
    f'{", ".join(known)}'
  )


def rotary_settings(
  section: Mapping[str, Any], theta: float = 1e4
) -> dict[str, Any]:
  """Settings of `mmjax.nn.Block` for rotary positions.

  Reads `rope_parameters`, or `rope_theta` and `rope_scaling`, as older releases
  write them.

  Args:
    section: a config or a part of one.
    theta: the default of `rope_theta`.

  Raises:
    ConfigError: for frequencies that mmjax doesn't know, or that lack a
      setting.
  """
  rope = section.get('rope_parameters') or section.get('rope_scaling') or {}
  theta = rope.get('rope_theta', section.get('rope_theta', theta))
  if type(theta) not in (int, float) or not 0 < theta < math.inf:
    raise ConfigError(
      f'config.json: rope_theta is {theta!r}; it should be a number above 0'
    )
  kind = rope.get('rope_type', rope.get('type', 'default'))
  part = rope.get('partial_rotary_factor')
  part = section.get('partial_rotary_factor') if part is None else part
  if part not in (None, 1):
    raise ConfigError(
      f'config.json: partial_rotary_factor is {part!r}; mmjax reads only 1'
    )
  known = {'rope_theta', 'rope_type', 'type', 'partial_rotary_factor'}
  known |= {'mrope_section', *_SCALED.get(kind, {}).values()}
  unknown = sorted(set(rope) - known)
  if kind in (*_SCALED, 'default', 'mrope') and unknown:
    raise ConfigError(
      f'config.json: rotary positions of rope_type {kind} have '
      f'{", ".join(unknown)}; mmjax knows {", ".join(sorted(known))}'
    )
  options: dict[str, Any] = {}
  if kind in _SCALED:
    options['scaling'] = {'kind': kind}
    for ours, theirs in _SCALED[kind].items():
      value = rope.get(theirs)
      if type(value) not in (int, float) or value <= 0:
        raise ConfigError(
          f'config.json: {theirs} is {value!r}; rotary positions of rope_type '
          f'{kind} need a number above 0'
        )
      options['scaling'][ours] = value
    if kind == 'dynamic':
      options['scaling']['length'] = _read_longest(section)
  elif kind not in ('default', 'mrope'):
    raise ConfigError(
      f'config.json: rope_type is {kind!r}; mmjax knows default, linear, '
      'dynamic, llama3 and mrope'
    )
  if rope.get('mrope_section'):
    options['sections'] = tuple(rope['mrope_section'])
  return {'rope_theta': float(theta), 'rope': options or None}


def _read_longest(section: Mapping[str, Any]) -> int:
  """The length of texts up to which dynamic rotary positions are plain."""
  value = section.get('max_position_embeddings')
  if type(value) is not int or value < 1:
    raise ConfigError(
      f'config.json: max_position_embeddings is {value!r}; rotary positions of '
      'rope_type dynamic need an integer above 0'
    )
  return value
