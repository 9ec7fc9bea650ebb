"""Makes arrays of numbers from lists, JSON texts and .npy files."""

import io
import json
import os
import re
from typing import Any

import numpy as np

from mmjax.data import file_paths
from mmjax.errors import ConfigError

# `float` also reads 1_000, which no other program writes.
_NUMBER = re.compile(
  r'\s*[+-]?(inf|infinity|nan|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*', re.IGNORECASE
)


def convert(value: Any) -> np.ndarray:
  """Converts nested lists, or an array, to an array of numbers.

  Returns:
    float32, of any shape; numbers that are too large become infinite.

  Raises:
    ConfigError: if they are not numbers, or rows have different lengths.
  """
  if isinstance(value, str | bytes):
    raise ConfigError(f'{value!r:.80} is not an array of numbers')
  try:
    with np.errstate(over='ignore'):
      return np.asarray(value, np.float32)
  except (TypeError, ValueError, OverflowError) as error:
    raise ConfigError(f'{value!r:.80} is not an array of numbers') from error


def read_number(value: Any) -> float:
  """Converts a number, or the text of one, which may also be infinite or NaN.

  Raises:
    ConfigError: if it is neither, or a boolean.
  """
  if isinstance(value, str) and not _NUMBER.fullmatch(value):
    raise ConfigError(
      f'{value!r:.80} is not a number; write it as 1234.5, without units or '
      'marks between thousands'
    )
  if isinstance(value, bool):
    raise ConfigError(
      f'it should be a number, not the boolean {str(value).lower()}; write 1 '
      'or 0'
    )
  try:
    return float(value)
  except (TypeError, ValueError, OverflowError) as error:
    raise ConfigError(f'{value!r:.80} is not a number') from error


def parse(text: str) -> np.ndarray:
  """Converts a JSON text, as `convert` does."""
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ConfigError(f'{text!r:.80} is not JSON: {error}') from error
  return convert(value)


def read(path: str | os.PathLike) -> np.ndarray:
  """Reads a .npy file of numbers, as `decode` does.

  Raises:
    ConfigError: as `decode` does, or if the file can't be read; it names the
      file.
  """
  data = file_paths.read_bytes(path, 'array')
  try:
    return decode(data)
  except ConfigError as error:
    raise ConfigError(f'{os.fspath(path)}: {error}') from error


def decode(data: bytes) -> np.ndarray:
  """Converts the contents of a .npy file to an array, as `convert` does.

  Raises:
    ConfigError: if it is damaged, or holds anything but real numbers.
  """
  try:
    array = np.load(io.BytesIO(data), allow_pickle=False)
  # Damaged headers raise errors of many kinds.
  except Exception as error:
    raise ConfigError(
      f'not a readable .npy file ({len(data)} bytes): {error}'
    ) from error
  if not isinstance(array, np.ndarray) or array.dtype.kind not in 'fiub':
    raise ConfigError('the .npy file does not hold an array of real numbers')
  return convert(array)


def encode(array: np.ndarray) -> bytes:
  """Writes an array as the contents of a .npy file, float32."""
  file = io.BytesIO()
  np.save(file, np.asarray(array, np.float32), allow_pickle=False)
  return file.getvalue()
