"""Parses texts that are lists or objects in JSON's or Python's notation."""

import ast
import io
import itertools
import re
import tokenize
from typing import Any

from mmjax.data import text_files
from mmjax.errors import ConfigError

_TUPLE = re.compile(r"""\(\s*(['"].*)?\)""", re.DOTALL)
_OBJECT = re.compile(r"""\{\s*['"].*\}""", re.DOTALL)
_PARSE_ERRORS = (
  SyntaxError,
  ValueError,
  TypeError,
  MemoryError,
  RecursionError,
)
_LAYOUT_TOKENS = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)


def read(text: str) -> Any:
  """Returns the list or object that a text is, or the text itself.

  >>> read('["a", "b"]'), read("['a', 'b']"), read('[sic] a dog [left]')
  (['a', 'b'], ['a', 'b'], '[sic] a dog [left]')

  Tuples are read as lists; a text in parentheses that is not one stays a text.

  >>> read("('a', 'b')"), read('("a" in a cloud)')
  (['a', 'b'], '("a" in a cloud)')

  Raises:
    ConfigError: if it begins and ends like a list of texts or objects, or like
      an object, but is not one, or if it is a set.
  """
  if _TUPLE.fullmatch(text):
    return _read_tuple(text)
  is_list = text.startswith('[') and text.endswith(']')
  if not is_list and not _OBJECT.fullmatch(text):
    return text
  try:
    return text_files.parse_json(text)
  except ValueError:
    pass
  if is_list and text[1:].lstrip()[:1] not in ('"', "'", '{'):
    return text
  try:
    values = ast.literal_eval(text)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    kinds = [each.type for each in tokens if each.type not in _LAYOUT_TOKENS]
  except _PARSE_ERRORS as error:
    kind = 'a list' if is_list else 'an object'
    raise ConfigError(
      f'{text!r:.80} looks like {kind}, but is not one'
    ) from error
  if isinstance(values, set):
    raise ConfigError(f'{text!r:.80} is a set, which has no order; use a list')
  # numpy prints ['a' 'b'], which Python reads as ['ab'].
  if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds):
    raise ConfigError(f'the texts of {text!r:.80} have no commas between them')
  return _to_lists(values)


def _read_tuple(text: str) -> Any:
  try:
    values = ast.literal_eval(text)
  except _PARSE_ERRORS:
    return text
  return _to_lists(values) if isinstance(values, tuple) else text


def _to_lists(value: Any) -> Any:
  """Returns a value of Python's notation with lists instead of tuples."""
  if isinstance(value, list | tuple):
    return [_to_lists(item) for item in value]
  if isinstance(value, dict):
    return {key: _to_lists(item) for key, item in value.items()}
  return value
