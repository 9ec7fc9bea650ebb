"""Checks the types of fields of a config.json that have no default.

`configs.section` checks the fields that have one.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError

# Parts of a config that have such fields too.
_PARTS = (
  'text_config',
  'vision_config',
  'qformer_config',
  'rope_parameters',
  'rope_scaling',
)
# Endings of the fields with ids of tokens; -1 stands for no padding.
_TOKENS = ('_token_id', '_token_index')
_NO_PADDING = ('pad_token_id', -1)


def is_number(value: Any) -> bool:
  """Whether a value is a finite number, not a bool."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return isinstance(value, int) or math.isfinite(value)


def is_list_like(value: Any, default: list) -> bool:
  """Whether a value is a list of the type in `default`, or of integers."""
  kind = type(default[0]) if default else int
  return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_whole(value: Any) -> bool:
  return type(value) is int


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and all(map(check, value))


def _is_labels(value: Any) -> bool:
  """Whether a value names classes by their numbers."""
  return isinstance(value, dict) and all(
    key.isdecimal() and isinstance(name, str) for key, name in value.items()
  )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
  'architectures': (_is_list_of(_is_text), 'a list of names'),
  'model_type': (_is_text, 'a name'),
  'id2label': (_is_labels, 'an object from numbers to names'),
  'num_labels': (_is_whole, 'a whole number'),
  'problem_type': (_is_text, 'a name'),
  'layer_types': (_is_list_of(_is_text), 'a list of names'),
  'max_window_layers': (_is_whole, 'a whole number'),
  'rope_theta': (is_number, 'a number'),
  'rope_type': (_is_text, 'a name'),
  'type': (_is_text, 'a name'),
  'mrope_section': (_is_list_of(_is_whole), 'a list of whole numbers'),
  'max_position_embeddings': (_is_whole, 'a whole number'),
  'projection_size': (_is_whole, 'a whole number'),
  'pooler_output_size': (_is_whole, 'a whole number'),
  'qkv_bias': (lambda value: isinstance(value, bool), 'true or false'),
  'pad_token_id': (_is_whole, 'a whole number'),
}


def _check_ids(field: str, value: Any, name: Path | str) -> None:
  """Refuses negative ids; other types are refused where they are read."""
  ids = value if isinstance(value, list) else [value]
  for number in ids:
    if _is_whole(number) and number < 0 and (field, number) != _NO_PADDING:
      raise ConfigError(
        f'{name}: {field} is {value!r}, but ids are at least 0; take the '
        'published value'
      )


def check(config: Mapping[str, Any], name: Path | str) -> None:
  """Refuses fields of a wrong type, and negative ids; null is allowed.

  Args:
    config: all of config.json.
    name: name of the file, for errors.

  Raises:
    ConfigError: if a field has a value of another type, or an id below 0.
  """
  for field, value in config.items():
    if value is None:
      continue
    if field in _FIELDS and not _FIELDS[field][0](value):
      shown = repr(value)
      shown = shown if len(shown) <= 60 else f'{shown[:57]}...'
      raise ConfigError(
        f'{name}: {field} is {shown}, not {_FIELDS[field][1]}; take the '
        'published value'
      )
    if field.endswith(_TOKENS):
      _check_ids(field, value, name)
    if field in _PARTS and isinstance(value, Mapping):
      check(value, name)
