"""Reads text files in any encoding and compression, and parses JSON."""

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
# pandas and Python write NaN for a missing value.
_CONSTANTS = {'NaN': None, 'Infinity': math.inf, '-Infinity': -math.inf}
_WHITESPACE = re.compile(r'[ \t\n\r]*')
# Encodings of texts that are not UTF-8, by script: Western European, Japanese,
# simplified and traditional Chinese, Korean, Cyrillic.
_CANDIDATES = ('cp1252', 'shift_jis', 'gb18030', 'big5', 'cp949', 'cp1251')
_SHOWN = 10  # Number of characters of each reading in a message.
_START_BYTES = 16  # Number of bytes that an encoding is detected by.


def read_lines(path: pathlib.Path, encoding: str | None) -> Iterator[str]:
  """Reads the lines of a file with their ends, `\\n`, `\\r\\n` or `\\r`.

  Bytes that are invalid in the encoding become lone surrogates, so that `check`
  can refuse a single line.

  Args:
    path: path of the file, perhaps compressed as `compressed_files` reads.
    encoding: name of a codec; None for UTF-8, or for UTF-16 and UTF-32 where
      the file begins with their byte order marks, or with ASCII in UTF-16.

  Raises:
    ConfigError: if the file is damaged or a zip archive, or the encoding is
      unknown.
  """
  with _open(path, encoding) as file:
    yield from file


def read(path: pathlib.Path, encoding: str | None) -> str:
  """Reads a whole file as `read_lines` does."""
  with _open(path, encoding) as file:
    return file.read()


def check(text: str, encoding: str | None) -> None:
  """Raises ConfigError if bytes of a line are invalid in its encoding."""
  if text.isascii():
    return
  try:
    text.encode()
  except UnicodeEncodeError as error:
    wrong = ord(text[error.start])
    if not 0xDC80 <= wrong <= 0xDCFF:
      return  # An escape in JSON, for which the record is refused.
    raise ConfigError(
      f'byte 0x{wrong - 0xDC00:02x} is not {encoding or "UTF-8"}; '
      f'{_suggest_encodings(text, encoding)}'
    ) from error


def decode(data: bytes, encoding: str | None) -> str:
  """Decodes the bytes of a file as `read_lines` does.

  Raises:
    ConfigError: if they are invalid in the encoding, or it is unknown.
  """
  codec = encoding or _detect_codec(data[:_START_BYTES])
  try:
    return data.decode(codec)
  except LookupError as error:
    raise _make_unknown_error(codec) from error
  except UnicodeDecodeError as error:
    text = data.decode(codec, 'backslashreplace')
    with contextlib.suppress(UnicodeDecodeError):  # UTF-16 has no escapes.
      text = data.decode(codec, 'surrogateescape')
    raise ConfigError(
      f'not {encoding or "UTF-8"} ({error.reason}); '
      f'{_suggest_encodings(text, codec)}'
    ) from error


def _suggest_encodings(text: str, encoding: str | None) -> str:
  """Names encodings that a text's bytes may have, with what they then read.

  Args:
    text: text whose invalid bytes are lone surrogates.
    encoding: encoding that it was decoded with; None for UTF-8.
  """
  readings = []
  with contextlib.suppress(UnicodeError):
    data = text.encode(encoding or 'utf-8', 'surrogateescape')
    for candidate in _CANDIDATES:
      with contextlib.suppress(UnicodeDecodeError):
        reading = data.decode(candidate).strip()
        if all(sign.isprintable() or sign.isspace() for sign in reading):
          readings.append(f'{candidate} reads {_quote_foreign(reading)!r}')
  if not readings:
    return "name the file's encoding, for example --encoding=cp1252"
  return f"name the file's encoding: --encoding={', '.join(readings)}"


def _quote_foreign(text: str) -> str:
  """Returns the part of a text around its first letter that is not ASCII."""
  first = next((i for i, sign in enumerate(text) if not sign.isascii()), 0)
  return text[max(0, first - _SHOWN // 2) : first + _SHOWN]


def parse_json(text: str) -> Any:
  """Parses JSON strictly: NaN becomes null, no key may occur twice.

  A number that is too large for a float is infinite, in any notation.

  Raises:
    ConfigError: if an object repeats a key.
    json.JSONDecodeError: if the text is not JSON, or is nested too deeply.
  """
  value, end = parse_json_at(text, _WHITESPACE.match(text).end())
  if _WHITESPACE.match(text, end).end() < len(text):
    raise json.JSONDecodeError('Extra data', text, end)
  return value


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
  """Parses one JSON value at an index; returns it and its end.

  Raises:
    ConfigError: if an object repeats a key.
    json.JSONDecodeError: if the text is not JSON, or is nested too deeply, so
      that its end is unknown.
  """
  try:
    try:
      return _make_decoder(int).raw_decode(text, start)
    except json.JSONDecodeError:
      raise
    except ValueError:  # Perhaps an integer of too many digits.
      return _make_decoder(_parse_integer).raw_decode(text, start)
  except RecursionError as error:
    raise json.JSONDecodeError(
      'it is nested too deeply', text, start
    ) from error


def find_json_end(text: str, start: int) -> int:
  """Finds the end of a value that `parse_json_at` refuses; -1 if not JSON."""
  decoder = json.JSONDecoder(parse_int=str, parse_float=str)
  try:
    return decoder.raw_decode(text, start)[1]
  except (ValueError, RecursionError):
    return -1


def quote(value: Any) -> str:
  """Quotes a value of a JSON file in a message: as JSON, cut if long."""
  try:
    return f'{json.dumps(value, ensure_ascii=False):.80}'
  except (ValueError, RecursionError):
    return f'a {type(value).__name__}'


@contextlib.contextmanager
def _open(path: pathlib.Path, encoding: str | None) -> Iterator[TextIO]:
  try:
    with contextlib.ExitStack() as stack:
      decompressed = compressed_files.open_compressed(path)
      raw = io.BufferedReader(decompressed) if decompressed else path.open('rb')
      stack.enter_context(raw)
      codec = encoding or _detect_codec(raw.peek(_START_BYTES)[:_START_BYTES])
      yield io.TextIOWrapper(raw, codec, errors='surrogateescape', newline='')
  except LookupError as error:
    raise _make_unknown_error(encoding) from error
  except compressed_files.DamagedError as error:
    raise ConfigError(f'{path} is damaged: {error}') from error
  except UnicodeError as error:
    raise ConfigError(
      f'{path} is not {encoding or "in the encoding that it begins with"}: '
      f'{error.reason if isinstance(error, UnicodeDecodeError) else error}; '
      "name the file's encoding with --encoding"
    ) from error


def _make_unknown_error(encoding: str | None) -> ConfigError:
  return ConfigError(
    f'encoding {encoding!r} is unknown; use one of Python, such as utf-8'
  )


def _detect_codec(start: bytes) -> str:
  """Detects the encoding of a file by its first bytes."""
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
def _make_decoder(parse_int: Callable[[str], Any]) -> json.JSONDecoder:
  return json.JSONDecoder(
    parse_constant=_CONSTANTS.get,
    object_pairs_hook=_make_object,
    parse_int=parse_int,
  )


def _parse_integer(digits: str) -> int | float:
  try:
    return int(digits)
  except ValueError:
    return float(digits)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  if len(fields) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ConfigError(f'the key {twice!r} occurs twice')
  return fields
