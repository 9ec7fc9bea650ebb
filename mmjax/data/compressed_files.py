"""Files that are compressed with gzip, bzip2, xz or zstd."""

import bz2
import functools
import gzip
import io
import lzma
import pathlib
import zlib

import pyarrow as pa

from mmjax.errors import ConfigError

# By the first bytes of a file: how to open it, and how many bytes to read at
# once. `read1` gives all that comes before damage; pyarrow's loses what it has
# read of a block by then, so that its blocks are small, as those of tars are.
_KINDS = {
  b'\x1f\x8b': (gzip.open, 65536),
  b'BZh': (bz2.open, 65536),
  b'\xfd7zXZ': (lzma.open, 65536),
  b'\x28\xb5\x2f\xfd': (
    functools.partial(pa.CompressedInputStream, compression='zstd'),
    512,
  ),
}
# What people put behind the names of such files.
ENDINGS = ('.gz', '.bz2', '.xz', '.zst')
_ZIP = b'PK\x03\x04'


class DamagedError(ValueError):
  """What comes next can't be decompressed."""


def open_if(path: pathlib.Path) -> io.RawIOBase | None:
  """Opens a file to read what is compressed in it; None if it isn't.

  Reading gives all that can be decompressed, then raises `DamagedError`.

  Raises:
    ConfigError: it is a zip archive.
    OSError: it can't be opened.
  """
  with path.open('rb') as file:
    start = file.read(8)
  if start.startswith(_ZIP):
    raise ConfigError(
      f'{path} is a zip archive, as spreadsheets are as well; unpack it, or '
      'export the sheet as CSV'
    )
  for mark, (opened, size) in _KINDS.items():
    if start.startswith(mark):
      return _Decompressed(opened(path), size)
  return None


class _Decompressed(io.RawIOBase):
  def __init__(self, packed: io.BufferedIOBase, size: int):
    super().__init__()
    self._packed = packed
    self._size = size

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    try:
      data = self._packed.read1(min(len(buffer), self._size))
    except (EOFError, zlib.error, lzma.LZMAError) as error:
      raise DamagedError(str(error)) from error
    except OSError as error:
      if error.errno is not None:  # Of the disk, not of what is on it.
        raise
      raise DamagedError(str(error)) from error
    buffer[: len(data)] = data
    return len(data)

  def close(self) -> None:
    self._packed.close()
    super().close()
