"""Values that JSON cannot represent."""

import json
import math
from typing import Any

# Nesting and sizes of numbers that the json library always writes.
_MAX_LEVELS = 200
_MAX_BITS = 10_000


def explain_json_fault(value: Any) -> str:
  """Explains why JSON can't represent a value; '' if it can."""
  try:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not text.isascii():
      text.encode()
  except (TypeError, ValueError, RecursionError):
    return _find_json_fault(value) or 'cannot be represented in JSON'
  return ''


def _find_json_fault(value: Any) -> str:
  pending = [(value, 0)]
  while pending:
    value, depth = pending.pop()
    if depth > _MAX_LEVELS:
      return 'is nested too deeply'
    if isinstance(value, dict):
      pending += [(item, depth + 1) for item in (*value, *value.values())]
    elif isinstance(value, list | tuple):
      pending += [(item, depth + 1) for item in value]
    elif reason := _explain_leaf_fault(value):
      return reason
  return ''


def _explain_leaf_fault(value: Any) -> str:
  if isinstance(value, str):
    try:
      value.encode()
    except UnicodeEncodeError as error:
      around = value[max(error.start - 30, 0) : error.start + 1]
      return f'has a lone surrogate or a byte of another encoding in {around!a}'
  elif isinstance(value, float):
    if not math.isfinite(value):
      return f'has the number {value}, which JSON cannot represent'
  elif isinstance(value, int):
    if value.bit_length() > _MAX_BITS:
      return f'has a number of more than {_MAX_BITS:,} bits'
  elif value is not None:
    return f'has {type(value).__name__}, which JSON cannot represent'
  return ''
