"""Reads texts in users' data, and refuses stand-ins for a missing one."""

import math
import re
import unicodedata
from typing import Any

from mmjax.errors import ConfigError

# Texts that programs write for a missing one; no answer is one of them.
_MISSING_ANSWERS = frozenset(('nan', '<na>'))
# More of them: 'none' and 'n/a' are answers in VQA.
_MISSING = _MISSING_ANSWERS | {
  *('n/a', 'na', 'none', 'null', 'undefined'),
  *('-', '--', '\N{EN DASH}', '\N{EM DASH}'),
}
# What spreadsheets write into a cell whose formula fails.
_SPREADSHEET_ERROR = re.compile(
  r'#(N/A|NAME\?|REF!|VALUE!|DIV/0!|NUM!|NULL!|SPILL!|CALC!|ERROR!|FIELD!'
  r'|BLOCKED!|CONNECT!|UNKNOWN!|GETTING_DATA)|Err:\d{3}',
  re.IGNORECASE,
)
_PROSE = ('caption', 'question', 'text', 'class')
_BOOLEANS = frozenset(('true', 'false'))
# Unicode categories of invisible characters: control and format characters,
# surrogates, spaces, combining marks.
_INVISIBLE = frozenset(('Cc', 'Cf', 'Cs', 'Zs', 'Zl', 'Zp', 'Mn', 'Me'))
_BYTES = re.compile(r"""b'.*'|b".*\"""", re.DOTALL)
_NUMBER = re.compile(r'[+-]?(\d+([.,]\d*)?|[.,]\d+)')


def read(value: Any, what: str) -> str:
  """Strips a text; converts numbers as Python writes them.

  Args:
    value: a text or number; for an answer also a boolean, which is yes or no.
    what: 'caption', 'question', 'answer' or 'type'; of further fields 'text' or
      'class'.

  Raises:
    ConfigError: if it is not a text, stands for a missing one, has no visible
      character, or has a null character.
  """
  if value is None or (isinstance(value, float) and math.isnan(value)):
    raise ConfigError(f'{what} is missing (null or NaN)')
  if isinstance(value, bool):
    if what != 'answer':
      raise ConfigError(
        f'{what} should be text, not the boolean {str(value).lower()}'
      )
    return 'yes' if value else 'no'
  if isinstance(value, int | float):
    return _format_number(value, what)
  if not isinstance(value, str):
    raise ConfigError(f'{what} should be text, not {value!r:.80}')
  _check(value, what)
  return value.strip()


def refuse_stand_in(text: str, what: str) -> None:
  """Raises ConfigError if a text stands for a missing value of any kind."""
  if text.strip().lower() in _MISSING:
    raise ConfigError(
      f'{what} is missing ({text.strip()!r}); a record without one has '
      'an empty cell, or null; write it in other words if it is a text'
    )


def is_number(value: Any) -> bool:
  """Whether a value is a number, or a text that is only a number."""
  if isinstance(value, str):
    return bool(_NUMBER.fullmatch(value.strip()))
  return isinstance(value, int | float) and not isinstance(value, bool)


def _format_number(value: int | float, what: str) -> str:
  if isinstance(value, float) and math.isinf(value):
    raise ConfigError(f'{what} is an infinite number')
  try:
    return str(value)
  except ValueError as error:  # More digits than Python writes.
    raise ConfigError(f'{what} is a number with too many digits') from error


def _check(text: str, what: str) -> None:
  stripped = text.strip()
  if not stripped:
    raise ConfigError(f'{what} is empty')
  if all(unicodedata.category(sign) in _INVISIBLE for sign in stripped):
    raise ConfigError(f'{what} has no visible character: {stripped!a:.80}')
  if '\0' in stripped:
    raise ConfigError(
      f'{what} has a null character: {stripped!r:.80}; if all do, name the '
      "file's encoding, for example --encoding=utf-16-le"
    )
  if what in ('text', 'class'):
    refuse_stand_in(stripped, what)
  missing = _MISSING if what in _PROSE else _MISSING_ANSWERS
  if stripped.lower() in missing:
    raise ConfigError(f'{what} is missing ({stripped!r})')
  if _SPREADSHEET_ERROR.fullmatch(stripped):
    raise ConfigError(
      f'{what} is the error {stripped!r} of a spreadsheet; correct the formula '
      'of its cell and save the table again'
    )
  if _BYTES.fullmatch(stripped):
    raise ConfigError(f"{what} is Python's notation of bytes: {stripped:.80}")
  if what == 'caption' and stripped.lower() in _BOOLEANS:
    raise ConfigError(f'{what} should be text, not the boolean {stripped!r}')
