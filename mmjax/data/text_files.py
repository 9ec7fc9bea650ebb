"""Lines of text files, in whatever encoding and compression they are."""

import codecs
import contextlib
import functools
import io
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from mmjax.data import compressed_files
from mmjax.errors import ConfigError

_BYTE_ORDER_MARKS = (
  (codecs.BOM_UTF8, 'utf-8-sig'),
  (codecs.BOM_UTF32_LE, 'utf-32'),  # Begins with UTF-16's.
  (codecs.BOM_UTF32_BE, 'utf-32'),
  (codecs.BOM_UTF16_LE, 'utf-16'),
  (codecs.BOM_UTF16_BE, 'utf-16'),
)
# pandas and Python write NaN for what is missing.
_CONSTANTS = {'NaN': None, 'Infinity': math.inf, '-Infinity': -math.inf}
_SPACE = re.compile(r'[ \t\n\r]*')
_START = 16  # Bytes by which an encoding is found.


def lines(path: pathlib.Path, encoding: str | None) -> Iterator[str]:
  """The lines of a file with their ends, which may be `\\n`, `\\r\\n` or `\\r`.

  Bytes that are not of the encoding become lone surrogates, so that a line can
  be refused by itself; `check` does so.

  Args:
    path: a file, perhaps compressed; see `compressed_files`.
    encoding: name of a codec; None for UTF-8, or for UTF-16 and UTF-32 where
      the file begins with their byte order marks, or with ASCII in UTF-16.

  Raises:
    ConfigError: the file is damaged or a zip archive, or Python knows no such
      encoding.
  """
  with _opened(path, encoding) as file:
    yield from file


def read(path: pathlib.Path, encoding: str | None) -> str:
  """The whole text; see `lines`."""
  with _opened(path, encoding) as file:
    return file.read()


def check(text: str, encoding: str | None) -> None:
  """Raises ConfigError where bytes of a line are not of its encoding."""
  if text.isascii():
    return
  try:
    text.encode()
  except UnicodeEncodeError as error:
    wrong = ord(text[error.start])
    if not 0xDC80 <= wrong <= 0xDCFF:
      return  # An escape in JSON, which is the record's own.
    raise ConfigError(
      f'byte 0x{wrong - 0xDC00:02x} is not {encoding or "UTF-8"}; name the '
      "file's encoding, for example --encoding=cp1252"
    ) from error


def parse_json(text: str) -> Any:
  """Parses JSON without its pitfalls: NaN is null, no key is there twice.

  A number that is too large for a float is infinite, whatever its notation.

  Raises:
    ConfigError: the text is not JSON; an object repeats a key; it is nested too
      deeply.
  """
  value, end = parse_json_at(text, _SPACE.match(text).end())
  if _SPACE.match(text, end).end() < len(text):
    raise json.JSONDecodeError('Extra data', text, end)
  return value


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
  """Parses one JSON value that begins at a place, and where it ends.

  Raises:
    ConfigError: as in `parse_json`; json.JSONDecodeError where the text is not
      JSON, or is nested too deeply, so that nobody knows where it ends.
  """
  try:
    try:
      return _decoder(int).raw_decode(text, start)
    except json.JSONDecodeError:
      raise
    except ValueError:  # Perhaps an integer of too many digits.
      return _decoder(_integer).raw_decode(text, start)
  except RecursionError as error:
    raise json.JSONDecodeError(
      'it is nested too deeply', text, start
    ) from error


def end_of_json_at(text: str, start: int) -> int:
  """Where a value ends that `parse_json_at` refuses; -1 if it is not JSON."""
  decoder = json.JSONDecoder(parse_int=str, parse_float=str)
  try:
    return decoder.raw_decode(text, start)[1]
  except (ValueError, RecursionError):
    return -1


def shown(value: Any) -> str:
  """A value of a JSON file as a message shows it: in JSON, cut where long."""
  try:
    return f'{json.dumps(value, ensure_ascii=False):.80}'
  except (ValueError, RecursionError):
    return f'a {type(value).__name__}'


@contextlib.contextmanager
def _opened(path: pathlib.Path, encoding: str | None) -> Iterator[TextIO]:
  try:
    with contextlib.ExitStack() as stack:
      packed = compressed_files.open_if(path)
      raw = io.BufferedReader(packed) if packed else path.open('rb')
      stack.enter_context(raw)
      codec = encoding or _codec(raw.peek(_START)[:_START])
      yield io.TextIOWrapper(raw, codec, errors='surrogateescape', newline='')
  except LookupError as error:
    raise ConfigError(f'Python knows no encoding {encoding!r}') from error
  except compressed_files.DamagedError as error:
    raise ConfigError(f'{path} is damaged: {error}') from error
  except UnicodeError as error:
    raise ConfigError(
      f'{path} is not {encoding or "of the encoding that it begins in"}: '
      f'{error.reason if isinstance(error, UnicodeDecodeError) else error}; '
      "name the file's encoding with --encoding"
    ) from error


def _codec(start: bytes) -> str:
  """The encoding that a file's first bytes are of."""
  for mark, codec in _BYTE_ORDER_MARKS:
    if start.startswith(mark):
      return codec
  # ASCII in UTF-16: every other byte is zero, as in no other encoding.
  even, odd = start[::2], start[1::2]
  if len(start) >= 4 and not any(odd) and all(even):
    return 'utf-16-le'
  if len(start) >= 4 and not any(even) and all(odd):
    return 'utf-16-be'
  return 'utf-8'


@functools.cache
def _decoder(parse_int: Callable[[str], Any]) -> json.JSONDecoder:
  return json.JSONDecoder(
    parse_constant=_CONSTANTS.get,
    object_pairs_hook=_object,
    parse_int=parse_int,
  )


def _integer(digits: str) -> int | float:
  try:
    return int(digits)
  except ValueError:
    return float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  if len(fields) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ConfigError(f'the key {twice!r} is there twice')
  return fields
