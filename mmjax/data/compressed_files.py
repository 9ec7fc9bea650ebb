"""Reads files that are compressed with gzip, bzip2, xz or zstd."""

import bz2
import functools
import gzip
import io
import lzma
import pathlib
import zlib

import pyarrow as pa

from mmjax.data import git_pointers
from mmjax.errors import ConfigError

# By the first bytes of a file: the function that opens it, and the number of
# bytes to read at once. `read1` returns all bytes before damage; pyarrow's
# loses the block that it is reading, so its blocks are as small as those of
# tars.
_KINDS = {
  b'\x1f\x8b': (gzip.open, 65536),
  b'BZh': (bz2.open, 65536),
  b'\xfd7zXZ': (lzma.open, 65536),
  b'\x28\xb5\x2f\xfd': (
    functools.partial(pa.CompressedInputStream, compression='zstd'),
    512,
  ),
}
# Endings of the names of such files.
ENDINGS = ('.gz', '.bz2', '.xz', '.zst')
_ZIP = b'PK\x03\x04'


class DamagedError(ValueError):
  """The rest of the file can't be decompressed."""


def open_compressed(path: pathlib.Path) -> io.RawIOBase | None:
  """Opens a compressed file to read its content; None if it isn't compressed.

  Reading returns all that can be decompressed, then raises `DamagedError`.

  Raises:
    ConfigError: if it is a zip archive, or a pointer of Git LFS.
    OSError: if it can't be opened.
  """
  with path.open('rb') as file:
    start = file.read(32)
  if reason := git_pointers.explain(start):
    raise ConfigError(f'{path} is {reason}')
  if start.startswith(_ZIP):
    raise ConfigError(
      f'{path} is a zip archive, as spreadsheets also are; unpack it, or '
      'export the sheet as CSV'
    )
  for mark, (open_file, size) in _KINDS.items():
    if start.startswith(mark):
      return _Decompressed(open_file(path), size)
  return None


class _Decompressed(io.RawIOBase):
  def __init__(self, file: io.BufferedIOBase, size: int):
    super().__init__()
    self._file = file
    self._size = size

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    try:
      data = self._file.read1(min(len(buffer), self._size))
    except (EOFError, zlib.error, lzma.LZMAError) as error:
      raise DamagedError(str(error)) from error
    except OSError as error:
      if error.errno is not None:  # The disk failed, not the decompression.
        raise
      raise DamagedError(str(error)) from error
    buffer[: len(data)] = data
    return len(data)

  def close(self) -> None:
    self._file.close()
    super().close()
