"""Temporary files in which TFDS sorts the records of a large data set.

TFDS sorts up to 1 GB of a split in memory, and larger ones in files that it
opens through TensorFlow. This module gives it ordinary files.
"""

import contextlib
import os
import pathlib
import struct
from collections.abc import Iterator
from unittest import mock

from tensorflow_datasets.core import shuffle

# Key and size of a record; its bytes follow.
_HEADER = struct.Struct('=16sQ')


class Bucket:
  """Records with keys in one file, with the methods of TFDS's own buckets."""

  def __init__(self, path: os.PathLike):
    self._path = pathlib.Path(path)
    self._length = 0
    self.size = 0

  def __len__(self) -> int:
    return self._length

  def add(self, key: int, data: bytes) -> None:
    """Appends a record; `key` is below 2^128."""
    if not self._length:
      self._path.parent.mkdir(parents=True, exist_ok=True)
    # Opened each time: some systems don't allow a thousand open files.
    with self._path.open('ab') as file:
      file.write(_HEADER.pack(key.to_bytes(16), len(data)))
      file.write(data)
    self._length += 1
    self.size += len(data)

  def read_values(self) -> Iterator[tuple[int, bytes]]:
    """Yields the keys and records, in the order in which they were added."""
    if not self._length:
      return
    with self._path.open('rb') as file:
      while header := file.read(_HEADER.size):
        key, size = _HEADER.unpack(header)
        yield int.from_bytes(key), file.read(size)

  def del_file(self) -> None:
    """Removes the file."""
    self._path.unlink(missing_ok=True)


def patch_tfds() -> contextlib.AbstractContextManager:
  """Makes TFDS use these buckets within the context."""
  return mock.patch.object(shuffle, '_Bucket', Bucket)
