"""What all features of numbers share: zero mean and unit deviation."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from mmjax.data.features import base
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardised(base.Feature):
  """Numbers from which a mean is subtracted, divided by a deviation.

  Attributes:
    mean: mean of each column; None for that of the training records.
    std: standard deviation, likewise.
  """

  encoder_settings: ClassVar[tuple[str, ...]] = ('mean', 'std')

  mean: Any = None
  std: Any = None

  def __post_init__(self):
    super().__post_init__()
    if (self.mean is None) != (self.std is None):
      self.refuse('mean', 'and std are set together, or neither')
    if self.mean is None:
      return
    for setting in ('mean', 'std'):
      value = getattr(self, setting)
      numbers = value if isinstance(value, tuple) else (value,)
      if not numbers or not base.are_numbers(numbers):
        self.refuse(setting, 'is not legal: finite numbers')
      if setting == 'std' and min(numbers) <= 0:
        self.refuse(setting, 'is not legal: numbers above 0')
    if np.shape(self.mean) != np.shape(self.std):
      self.refuse('std', f'has another length than mean={self.mean!r}')

  @property
  def is_fitted(self) -> bool:
    return self.mean is not None

  def fit(self, source: Any) -> 'Standardised':
    if self.is_fitted:
      return self
    count, total, squares = 0, np.zeros(0), np.zeros(0)
    for value in self.iterate_values(source):
      if value is None:
        continue
      rows = self._get_rows(value)
      if count and rows.shape[1] != len(total):
        raise ConfigError(
          f'data.features.{self.name}: a record has {rows.shape[1]} columns, '
          f'but those before it {len(total)}'
        )
      total = rows.sum(axis=0) + (total if count else 0)
      squares = np.square(rows).sum(axis=0) + (squares if count else 0)
      count += len(rows)
    if not count:
      raise ConfigError(
        f'data.features.{self.name}: no training record has the field '
        f'{self.field_name!r}{self.list_metadata(source)}'
      )
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    std = np.where(std > 1e-6 * (1 + np.abs(mean)), std, 1.0)
    return dataclasses.replace(
      self, mean=self._to_setting(mean), std=self._to_setting(std)
    )

  @staticmethod
  def _get_rows(value: Any) -> np.ndarray:
    """The numbers of a value, float64 [rows, columns]."""
    raise NotImplementedError

  @staticmethod
  def _to_setting(numbers: np.ndarray) -> Any:
    return tuple(numbers.tolist())

  def _standardise(self, array: np.ndarray) -> np.ndarray:
    return ((array - np.array(self.mean)) / np.array(self.std)).astype(
      np.float32
    )

  def _check_width(self, array: np.ndarray) -> None:
    if array.shape[-1] != len(self.mean):
      raise ConfigError(
        f'field {self.field_name} has {array.shape[-1]} columns, not '
        f'{len(self.mean)}'
      )

  def _pair(self, array: Any, mask: Any) -> base.Example:
    return {self.name: array, f'{self.name}_mask': mask}

  def _pad(self, rows: np.ndarray, length: int) -> base.Example:
    array = np.zeros((length, len(self.mean)), np.float32)
    array[: len(rows)] = rows
    return self._pair(array, np.arange(length) < len(rows))
