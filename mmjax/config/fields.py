"""Types, ranges and descriptions of config fields."""

import dataclasses
import difflib
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Field:
  """The legal values of a config field, and what they mean.

  Attributes:
    kind: type: 'int', 'float', 'number' (an int or a float, as it is written),
      'bool', 'str', 'strings' or 'floats' (tuples), 'size' (int, or two),
      'pairs' (tuple of (str, float)), 'token' (name or id), 'dict', or 'plain':
      anything that JSON can hold.
    default: value where the config file doesn't name the field.
    meaning: one line for the user.
    choices: legal values, if few.
    minimum: smallest legal number.
    above: number that a legal one is greater than.
    maximum: largest legal number.
    optional: whether None is legal.
    resumable: whether a run may resume with another value.
  """

  kind: str
  default: Any
  meaning: str
  choices: tuple[str, ...] = ()
  minimum: float | None = None
  above: float | None = None
  maximum: float | None = None
  optional: bool = False
  resumable: bool = False

  def describe(self) -> str:
    """Description of the legal values, for error messages."""
    words = {
      'int': 'a whole number',
      'float': 'a number',
      'number': 'a number',
      'bool': 'True or False',
      'str': 'a string',
      'strings': 'a tuple of strings',
      'floats': 'a tuple of numbers',
      'size': 'a whole number from 1, or a tuple of two',
      'pairs': 'a tuple of (regular expression, number) pairs',
      'dict': 'a dict',
      'token': "a token's name or id",
      'plain': 'plain data: None, bool, number, string, tuple or dict of those',
    }[self.kind]
    if self.choices:
      words = 'one of ' + ', '.join(repr(choice) for choice in self.choices)
    if self.minimum is not None:
      words += f', at least {self.minimum}'
    if self.above is not None:
      words += f', more than {self.above}'
    if self.maximum is not None:
      words += f', at most {self.maximum}'
    return words + (', or None' if self.optional else '')

  def explain(self, value: Any) -> str:
    """`describe`, and the legal value that an illegal one may stand for."""
    close = difflib.get_close_matches(str(value), self.choices, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return self.describe() + hint

  def accepts(self, value: Any) -> bool:
    """Whether `value` is legal; a whole number is a number too."""
    if value is None:
      return self.optional or self.kind == 'plain'
    return (
      _KINDS[self.kind](value)
      and (not self.choices or value in self.choices)
      and (self.minimum is None or value >= self.minimum)
      and (self.above is None or value > self.above)
      and (self.maximum is None or value <= self.maximum)
    )


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
  return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_tuple(of) -> Any:
  return lambda value: (
    isinstance(value, tuple | list) and all(of(v) for v in value)
  )


def is_plain(value: Any) -> bool:
  """Whether JSON can hold the value (a tuple as a list)."""
  if isinstance(value, tuple | list):
    return all(is_plain(v) for v in value)
  if hasattr(value, 'items'):
    return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
  return value is None or isinstance(value, bool | int | float | str)


def _is_pair(value: Any) -> bool:
  return (
    isinstance(value, tuple | list)
    and len(value) == 2
    and isinstance(value[0], str)
    and _is_float(value[1])
  )


def _is_size(value: Any) -> bool:
  sides = value if isinstance(value, tuple | list) else (value, value)
  return len(sides) == 2 and all(_is_int(s) and s > 0 for s in sides)


_KINDS = {
  'int': _is_int,
  'float': _is_float,
  'number': _is_float,
  'bool': lambda value: isinstance(value, bool),
  'str': lambda value: isinstance(value, str),
  'strings': _is_tuple(lambda value: isinstance(value, str)),
  'floats': _is_tuple(_is_float),
  'size': _is_size,
  'pairs': _is_tuple(_is_pair),
  'token': lambda value: isinstance(value, str) or _is_int(value),
  'dict': lambda value: hasattr(value, 'items') and is_plain(value),
  'plain': is_plain,
}
