"""What features of several images or sounds of any size have in common."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epy

from mmjax.data import images as image_files
from mmjax.data.features import base
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds


class StoredFiles:
  """Stores the encoded files of a field of several images, sounds or videos.

  A feature inherits it before its base.
  """

  @classmethod
  def make_storage(cls) -> 'tfds.features.FeatureConnector':
    """Makes the feature of a TFDS data set that stores a value."""
    return tfds.features.Sequence(tfds.features.Text())

  @classmethod
  def pack(cls, value: Sequence[bytes] | None) -> list[bytes]:
    """Converts a value to what is stored."""
    return list(value or ())

  @classmethod
  def unpack(cls, raw: Any) -> list[bytes] | None:
    """Converts what is stored to a value, None for none."""
    return [bytes(item) for item in raw] or None

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    """Says what is wrong with a value; '' if nothing is."""
    if isinstance(value, list) and all(isinstance(v, bytes) for v in value):
      return ''
    return describe_wrong(value, 'a list of bytes')


def describe_wrong(value: Any, legal: str) -> str:
  """What a value should be, for a message."""
  return f'should be {legal}, not {type(value).__name__}'


class Several:
  """Makes arrays of a list of files, or of what a person passes.

  A feature inherits it before its base, and defines `_combine`.
  """

  name: str
  item_word: ClassVar[str] = 'image'

  def make_arrays(
    self, chosen: Sequence[bytes], rng: np.random.Generator | None, *, flips
  ) -> base.Example:
    """Arrays of encoded files; nothing about them is random."""
    del rng, flips
    return self._combine([self._decode(data) for data in chosen])

  def make_absent(self, rng: np.random.Generator | None = None) -> base.Example:
    """Arrays of none, all masked."""
    del rng
    return self._combine([])

  def prepare(self, value: Any) -> base.Example:
    """Arrays of one, or of a list of at least one."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
      raise ConfigError(
        f'{self.name} is one {self.item_word} or more, not an empty list'
      )
    return self._combine([self._read(item) for item in values])

  def _decode(self, data: bytes) -> np.ndarray:
    return image_files.decode(data)

  def _read(self, value: Any) -> np.ndarray:
    return image_files.to_array(value)
