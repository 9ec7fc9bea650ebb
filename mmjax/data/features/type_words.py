"""Names of types in messages about settings."""

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a number',
  str: 'a text',
  Sequence: 'a tuple',
  Mapping: 'a dict',
  types.NoneType: 'None',
}


def describe_type(hint: Any) -> str:
  """What a value of a type is, in words.

  >>> describe_type(int | Sequence)
  'a whole number or a tuple'
  """
  is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
  options = typing.get_args(hint) if is_union else (hint,)
  bare = [typing.get_origin(option) or option for option in options]
  return ' or '.join(
    _WORDS.get(kind, getattr(kind, '__name__', str(kind))) for kind in bare
  )
