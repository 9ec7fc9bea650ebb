"""Lines of text files, in whatever encoding and compression they are."""

import codecs
import contextlib
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any, TextIO

from mmjax.data import compressed_files

_BYTE_ORDER_MARKS = (
  (codecs.BOM_UTF8, 'utf-8-sig'),
  (codecs.BOM_UTF16_LE, 'utf-16'),
  (codecs.BOM_UTF16_BE, 'utf-16'),
)


def lines(path: pathlib.Path, encoding: str | None) -> Iterator[str]:
  """The lines of a file with their ends, which may be `\\n`, `\\r\\n` or `\\r`.

  Bytes that are not of the encoding become lone surrogates, so that a line can
  be refused by itself; `check` does so.

  Args:
    path: a file, perhaps compressed; see `compressed_files`.
    encoding: name of a codec; None for UTF-8, or for UTF-16 where the file
      begins with its byte order mark.

  Raises:
    ValueError: the file is damaged or a zip archive, or Python knows no such
      encoding.
  """
  with _opened(path, encoding) as file:
    yield from file


def read(path: pathlib.Path, encoding: str | None) -> str:
  """The whole text; see `lines`."""
  with _opened(path, encoding) as file:
    return file.read()


def check(text: str, encoding: str | None) -> None:
  """Raises ValueError where bytes of a line are not of its encoding."""
  if text.isascii():
    return
  try:
    text.encode()
  except UnicodeEncodeError as error:
    wrong = ord(text[error.start])
    if not 0xDC80 <= wrong <= 0xDCFF:
      return  # An escape in JSON, which is the record's own.
    raise ValueError(
      f'byte 0x{wrong - 0xDC00:02x} is not {encoding or "UTF-8"}; name the '
      "file's encoding, for example --encoding=cp1252"
    ) from error


def parse_json(text: str) -> Any:
  """Parses JSON without its pitfalls: NaN is null, no key is there twice.

  Raises:
    ValueError: the text is not JSON; an object repeats a key; a number is
      infinite; it is nested too deeply.
  """
  try:
    return json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
  except RecursionError as error:
    raise ValueError('it is nested too deeply') from error


@contextlib.contextmanager
def _opened(path: pathlib.Path, encoding: str | None) -> Iterator[TextIO]:
  try:
    with contextlib.ExitStack() as stack:
      packed = compressed_files.open_if(path)
      raw = io.BufferedReader(packed) if packed else path.open('rb')
      stack.enter_context(raw)
      start = raw.peek(4)
      marked = [n for mark, n in _BYTE_ORDER_MARKS if start.startswith(mark)]
      codec = encoding or (marked or ['utf-8'])[0]
      yield io.TextIOWrapper(raw, codec, errors='surrogateescape', newline='')
  except LookupError as error:
    raise ValueError(f'Python knows no encoding {encoding!r}') from error
  except compressed_files.DamagedError as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  except UnicodeError as error:
    raise ValueError(
      f'{path} is not {encoding or "the UTF-16 that it begins as"}: '
      f'{error.reason if isinstance(error, UnicodeDecodeError) else error}; '
      "name the file's encoding with --encoding"
    ) from error


def _constant(name: str) -> None:
  # pandas and Python write NaN for what is missing.
  if name != 'NaN':
    raise ValueError(f'{name} is not JSON')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  if len(fields) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f'the key {twice!r} is there twice')
  return fields
