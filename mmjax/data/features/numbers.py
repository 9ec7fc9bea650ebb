"""Fields of numbers: one, a vector, a series over time, points in space."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epy

from mmjax.data import audio, contact_sheet, drawings, number_arrays
from mmjax.data.features import base, standardised
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number(standardised.Standardised):
  """A number, standardised. The array is float32 [], its mask bool [].

  Attributes:
    mean: mean that is subtracted; None for that of the training records.
    std: standard deviation that it is divided by, likewise.
  """

  kind: ClassVar[str] = 'number'
  field_kinds: ClassVar[tuple[str, ...]] = ('number',)
  word: ClassVar[str] = 'a number'

  mean: float | None = None
  std: float | None = None

  @classmethod
  def from_metadata(cls, value: Any) -> float:
    number = number_arrays.read_number(value)
    if fault := cls.explain_fault(number):
      raise ConfigError(fault)
    return number

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    if type(value) not in (int, float) or not math.isfinite(value):
      return f'should be a finite number, not {value!r:.80}'
    return ''

  def make_arrays(
    self, chosen: float, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del rng, flips
    return self._pair(self._standardise(np.array(chosen))[()], np.bool_(True))

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pair(np.float32(0), np.bool_(False))

  def prepare(self, value: Any) -> base.Example:
    try:
      number = self.from_metadata(value)
    except ConfigError as error:
      raise ConfigError(f'{self.name}: {error}') from error
    return self.make_arrays(number, None, flips=False)

  def restore(self, array: np.ndarray) -> np.ndarray:
    """Undoes the standardisation."""
    return np.asarray(array) * self.std + self.mean

  @staticmethod
  def _get_rows(value: float) -> np.ndarray:
    return np.array([[value]], np.float64)

  @staticmethod
  def _to_setting(numbers: np.ndarray) -> float:
    return float(numbers[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Array(standardised.Standardised):
  """Numbers that are stored as an array."""

  is_large: ClassVar[bool] = True
  axes: ClassVar[int] = 1

  mean: Sequence | None = None
  std: Sequence | None = None

  def fit(self, source: Any) -> '_Array':
    width = self._find_width(source) if self.is_fitted else None
    if width is not None and width != len(self.mean):
      self.refuse(
        'mean',
        f'and std have {len(self.mean)} numbers, but the field '
        f'{self.field_name!r} has {width}',
      )
    return super().fit(source)

  def _find_width(self, source: Any) -> int | None:
    """The number of columns of the first record that has the field."""
    for index in range(len(source)):
      # Reading an unreadable record in training reports it.
      with contextlib.suppress(ConfigError):
        if (value := self.get(source.read(index))) is not None:
          return value.shape[-1]
    return None

  @classmethod
  def make_storage(cls) -> 'tfds.features.FeatureConnector':
    return tfds.features.Text()

  @classmethod
  def pack(cls, value: np.ndarray | None) -> bytes:
    return b'' if value is None else number_arrays.encode(value)

  @classmethod
  def unpack(cls, raw: Any) -> np.ndarray | None:
    return number_arrays.decode(raw) if raw else None

  @classmethod
  def from_metadata(cls, value: Any) -> np.ndarray:
    is_text = isinstance(value, str)
    array = (number_arrays.parse if is_text else number_arrays.convert)(value)
    if fault := cls.explain_fault(array):
      raise ConfigError(f'an entry of the metadata {fault}')
    return array

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'fiu':
      return f'should be an array of numbers, not {value!r:.80}'
    if value.ndim != cls.axes or not value.size:
      return f'should have {cls.axes} axes, not the shape {list(value.shape)}'
    if not np.isfinite(value).all():
      return 'has numbers that are NaN or infinite'
    return ''

  def prepare(self, value: Any) -> base.Example:
    """Makes the arrays of nested lists, a JSON text, or a .npy file's path."""
    if isinstance(value, str) and value.lstrip().startswith('['):
      array = number_arrays.parse(value)
    elif isinstance(value, str | os.PathLike):
      array = number_arrays.read(value)
    else:
      array = number_arrays.convert(value)
    if fault := self.explain_fault(array):
      raise ConfigError(f'{self.name} {fault}')
    return self.make_arrays(array, None, flips=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vector(_Array):
  """A vector, standardised. The array is float32 [D], its mask bool [].

  Attributes:
    mean: mean of each number; None for those of the training records.
    std: standard deviation of each number, likewise.
  """

  kind: ClassVar[str] = 'vector'
  field_kinds: ClassVar[tuple[str, ...]] = ('vector',)
  word: ClassVar[str] = 'a vector'

  def make_arrays(
    self, chosen: np.ndarray, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del rng, flips
    self._check_width(chosen)
    return self._pair(self._standardise(chosen), np.bool_(True))

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pair(np.zeros(len(self.mean), np.float32), np.bool_(False))

  @classmethod
  def render(cls, value: np.ndarray) -> contact_sheet.Cell:
    return drawings.draw_series(value[:, None]), [f'{len(value)} numbers']

  @staticmethod
  def _get_rows(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float64)[None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series(_Array):
  """Measurements over time, standardised.

  A value is an array [T, C]. The array is float32 [T, C], its mask bool [T]. Of
  a longer series, training takes a random part and evaluation the first.

  Attributes:
    length: T, number of times.
    stored_rate: measurements a second of the records; 0 if `rate` is.
    rate: measurements a second of the array; 0 for those of the records.
    mean: mean of each column; None for those of the training records.
    std: standard deviation of each column, likewise.
  """

  kind: ClassVar[str] = 'series'
  field_kinds: ClassVar[tuple[str, ...]] = ('series',)
  word: ClassVar[str] = 'a series'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'mean',
    'std',
    'length',
    'rate',
  )
  axes: ClassVar[int] = 2

  length: int = 128
  stored_rate: float = 0.0
  rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if self.length < 1:
      self.refuse('length', 'is not legal: at least 1')
    for setting in ('rate', 'stored_rate'):
      if not 0 <= getattr(self, setting) < math.inf:
        self.refuse(setting, 'is not legal: a finite number, 0 or more')
    if (self.rate > 0) != (self.stored_rate > 0):
      self.refuse('rate', 'and stored_rate are above 0 together, or both 0')

  def make_arrays(
    self, chosen: np.ndarray, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del flips
    self._check_width(chosen)
    if self.rate:
      chosen = audio.resample(chosen, self.stored_rate, self.rate)
    first = 0
    if rng is not None and len(chosen) > self.length:
      first = int(rng.integers(len(chosen) - self.length + 1))
    rows = self._standardise(chosen[first : first + self.length])
    return self._pad(rows, self.length)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pad(np.zeros((0, len(self.mean)), np.float32), self.length)

  @classmethod
  def render(cls, value: np.ndarray) -> contact_sheet.Cell:
    lines = [f'{value.shape[0]} times, {value.shape[1]} columns']
    return drawings.draw_series(value), lines

  @staticmethod
  def _get_rows(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points(_Array):
  """Points in space, with further numbers each.

  A value is an array [N, 3 + C] that begins with x, y and z. These are moved to
  the mean and scaled into the unit sphere, the others standardised. The array
  is float32 [N, 3 + C], its mask bool [N].

  Attributes:
    number: N; of more points, training takes a random part and evaluation one
      that is spread over their order.
    mean: mean of each column; None for those of the training records. Those of
      x, y and z are not used.
    std: standard deviation of each column, likewise.
  """

  kind: ClassVar[str] = 'points'
  field_kinds: ClassVar[tuple[str, ...]] = ('points',)
  word: ClassVar[str] = 'points'
  encoder_settings: ClassVar[tuple[str, ...]] = ('mean', 'std', 'number')
  axes: ClassVar[int] = 2

  number: int = 1024

  def __post_init__(self):
    super().__post_init__()
    if self.number < 1:
      self.refuse('number', 'is not legal: at least 1')

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    fault = super().explain_fault(value)
    if not fault and value.shape[1] < 3:
      return f'should have x, y and z, not {value.shape[1]} columns'
    return fault

  def make_arrays(
    self, chosen: np.ndarray, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del flips
    self._check_width(chosen)
    if len(chosen) > self.number:
      if rng is None:
        rows = np.linspace(0, len(chosen) - 1, self.number).astype(int)
      else:
        rows = rng.permutation(len(chosen))[: self.number]
      chosen = chosen[rows]
    points = self._standardise(chosen)
    space = chosen[:, :3] - chosen[:, :3].mean(axis=0)
    largest = np.linalg.norm(space, axis=1).max()
    points[:, :3] = space / (largest if largest > 0 else 1.0)
    return self._pad(points, self.number)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pad(np.zeros((0, len(self.mean)), np.float32), self.number)

  @classmethod
  def render(cls, value: np.ndarray) -> contact_sheet.Cell:
    return drawings.draw_points(value), [f'{len(value)} points']

  @staticmethod
  def _get_rows(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float64)
