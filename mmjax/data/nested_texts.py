"""Parses texts that are lists or objects in JSON's or Python's notation."""

import ast
import io
import itertools
import re
import tokenize
from typing import Any

from mmjax.data import text_files
from mmjax.errors import ConfigError

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

  Raises:
    ConfigError: if it begins and ends like a list of texts or objects, or like
      an object, but is not one.
  """
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
  # numpy prints ['a' 'b'], which Python reads as ['ab'].
  if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds):
    raise ConfigError(f'the texts of {text!r:.80} have no commas between them')
  return values
