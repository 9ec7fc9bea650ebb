"""Which kinds of values the fields of a config.json have.

`configs.section` checks the fields that have a default of one kind. These are
the others, which are read as they stand.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError

# Sections that have such fields themselves.
_PARTS = (
  'text_config',
  'vision_config',
  'qformer_config',
  'rope_parameters',
  'rope_scaling',
)


def is_number(value: Any) -> bool:
  """Whether a value is a number, not infinite, nor a truth value."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return isinstance(value, int) or math.isfinite(value)


def is_list_like(value: Any, default: list) -> bool:
  """Whether a value is a list of what is in `default`, or of whole numbers."""
  kind = type(default[0]) if default else int
  return isinstance(value, list) and all(type(one) is kind for one in value)


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_whole(value: Any) -> bool:
  return type(value) is int


def _are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and all(map(check, value))


def _are_labels(value: Any) -> bool:
  """Whether a value names classes by their numbers."""
  return isinstance(value, dict) and all(
    key.isdecimal() and isinstance(name, str) for key, name in value.items()
  )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
  'architectures': (_are(_is_text), 'a list of names'),
  'model_type': (_is_text, 'a name'),
  'id2label': (_are_labels, 'an object from numbers to names'),
  'num_labels': (_is_whole, 'a whole number'),
  'problem_type': (_is_text, 'a name'),
  'layer_types': (_are(_is_text), 'a list of names'),
  'max_window_layers': (_is_whole, 'a whole number'),
  'rope_theta': (is_number, 'a number'),
  'rope_type': (_is_text, 'a name'),
  'type': (_is_text, 'a name'),
  'mrope_section': (_are(_is_whole), 'a list of whole numbers'),
  'max_position_embeddings': (_is_whole, 'a whole number'),
  'projection_size': (_is_whole, 'a whole number'),
  'pooler_output_size': (_is_whole, 'a whole number'),
  'qkv_bias': (lambda value: isinstance(value, bool), 'true or false'),
  'pad_token_id': (_is_whole, 'a whole number'),
}


def check(config: Mapping[str, Any], name: Path | str) -> None:
  """Refuses fields of another kind than they have; null stands for none.

  Args:
    config: all of config.json.
    name: of the file, for errors.

  Raises:
    ConfigError: if a field has another kind of value.
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
    if field in _PARTS and isinstance(value, Mapping):
      check(value, name)
