"""Bytes of a valid file, changed as disks, editors and attackers do it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# What may stand for a value of a JSON file.
_ODD: tuple[Callable[[], str], ...] = (
  lambda: 'null',
  lambda: 'true',
  lambda: 'NaN',
  lambda: '-Infinity',
  lambda: '1' + '0' * 400,
  lambda: '1' + '0' * 5000,
  lambda: '-1',
  lambda: '0',
  lambda: '1e999',
  lambda: '0.5',
  lambda: '""',
  lambda: '"\\ud83d"',
  lambda: '"\\u0000"',
  lambda: '"../x"',
  lambda: '[]',
  lambda: '{}',
  lambda: '[null]',
  lambda: '{"a": {"b": [1, "c"]}}',
  lambda: '[' * 50 + ']' * 50,
  lambda: '[' * 100_000,
  lambda: '{"a":' * 5000 + '1' + '}' * 5000,
)


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
  """A copy of bytes with one to three changes.

  Args:
    rng: what draws the changes.
    data: a valid file. One whose text is JSON, or that begins with the header
      of a safetensors file, is also changed by its values.
  """
  for _ in range(rng.integers(1, 4)):
    data = _CHANGES[rng.integers(len(_CHANGES))](rng, data)
  return data


def _flip(rng: np.random.Generator, data: bytes) -> bytes:
  out = bytearray(data)
  for _ in range(rng.integers(1, 9) if out else 0):
    out[rng.integers(len(out))] = rng.integers(256)
  return bytes(out)


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
  return data[: rng.integers(len(data) + 1)]


def _insert(rng: np.random.Generator, data: bytes) -> bytes:
  at = rng.integers(len(data) + 1)
  return data[:at] + rng.bytes(rng.integers(1, 20)) + data[at:]


def _repeat(rng: np.random.Generator, data: bytes) -> bytes:
  start, end = sorted(rng.integers(len(data) + 1, size=2))
  return data[:end] + data[start:]


def _remove(rng: np.random.Generator, data: bytes) -> bytes:
  start, end = sorted(rng.integers(len(data) + 1, size=2))
  return data[:start] + data[end:]


def _length(rng: np.random.Generator, data: bytes) -> bytes:
  """Another length of the header of a safetensors file."""
  size = int(rng.choice([0, 1, 100, 2**31, 2**40, 2**63 - 1]))
  return size.to_bytes(8, 'little') + data[8:]


def _value(rng: np.random.Generator, data: bytes) -> bytes:
  """One value of the JSON in a file becomes another kind of value."""
  front, text, back = _json(data)
  try:
    content = json.loads(text)
    paths = list(_paths(content))
  except (ValueError, RecursionError):
    return _flip(rng, data)
  path = paths[rng.integers(len(paths))]
  mark, odd = '@odd@', _ODD[rng.integers(len(_ODD))]()
  content = _replaced(content, path, mark)
  new = json.dumps(content).replace(f'"{mark}"', odd).encode()
  if front:
    front = len(new).to_bytes(8, 'little')
  return front + new + back


def _json(data: bytes) -> tuple[bytes, bytes, bytes]:
  """What is before, in and after the JSON of a file."""
  size = int.from_bytes(data[:8], 'little')
  if data[8:9] == b'{' and size <= len(data) - 8:
    return data[:8], data[8 : 8 + size], data[8 + size :]
  return b'', data, b''


def _paths(content: Any, path: tuple = ()) -> Iterator[tuple]:
  yield path
  items = ()
  if isinstance(content, dict):
    items = content.items()
  elif isinstance(content, list):
    items = enumerate(content)
  for key, value in items:
    yield from _paths(value, (*path, key))


def _replaced(content: Any, path: tuple, value: Any) -> Any:
  if not path:
    return value
  content[path[0]] = _replaced(content[path[0]], path[1:], value)
  return content


# A changed value is what a reader is least prepared for.
_CHANGES = (
  _flip,
  _cut,
  _insert,
  _repeat,
  _remove,
  _length,
  *[_value] * 6,
)
