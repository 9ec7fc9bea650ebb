"""Fields of sound."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from mmjax.data import audio, contact_sheet, drawings
from mmjax.data.features import base, images
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound(base.Feature):
  """A sound file, as the samples of one channel.

  The array is float32 [S] in -1..1, its mask bool [S], S = rate * seconds. Of a
  longer sound, training takes a random part and evaluation the first.

  Attributes:
    rate: samples a second; sounds of another rate are resampled.
    seconds: length in seconds.
  """

  kind: ClassVar[str] = 'sound'
  field_kinds: ClassVar[tuple[str, ...]] = ('sound',)
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'a sound'
  encoder_settings: ClassVar[tuple[str, ...]] = ('rate', 'seconds')

  rate: int = 16_000
  seconds: float = 8.0

  def __post_init__(self):
    super().__post_init__()
    if not 100 <= self.rate <= 400_000:
      self.refuse('rate', 'is not legal: samples a second, such as 16000')
    if not 0 < self.seconds <= 3_600 or self.length < 1:
      self.refuse('seconds', 'is not legal: more than 0, at most 3600')

  @classmethod
  def pack(cls, value: bytes | None) -> bytes:
    return value or b''

  @classmethod
  def unpack(cls, raw: Any) -> bytes | None:
    return bytes(raw) or None

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    return images.Image.explain_fault(value)

  @property
  def length(self) -> int:
    """S, number of samples."""
    return round(self.rate * self.seconds)

  def make_arrays(
    self, chosen: bytes, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del flips
    samples, rate = audio.decode(chosen)
    return self._cut(audio.resample(samples, rate, self.rate), rng)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._cut(np.zeros(0, np.float32), None)

  def prepare(self, value: Any) -> base.Example:
    """Makes the arrays of a file's path, bytes, or floats [N] at `rate`."""
    data = images.read_file(value)
    if data is not None:
      try:
        return self.make_arrays(data, None, flips=False)
      except ConfigError as error:
        raise ConfigError(f'{value}: {error}') from error
    if isinstance(value, bytes):
      return self.make_arrays(value, None, flips=False)
    samples = np.asarray(value)
    is_float = np.issubdtype(samples.dtype, np.floating)
    if samples.ndim != 1 or not is_float or not samples.size:
      raise ConfigError(
        f'{self.name} is the path of a sound file or floats [N] in -1..1 at '
        f'{self.rate} samples a second, not {samples.dtype} '
        f'{list(samples.shape)}'
      )
    if not np.isfinite(samples).all():
      raise ConfigError(f'{self.name} has samples that are NaN or infinite')
    return self._cut(samples.astype(np.float32), None)

  @classmethod
  def draw(cls, value: bytes) -> contact_sheet.Cell:
    samples, rate = audio.decode(value)
    lines = [f'{len(samples) / rate:.1f} s, {rate:,} Hz']
    return drawings.draw_sound(samples), lines

  def _cut(
    self, samples: np.ndarray, rng: np.random.Generator | None
  ) -> base.Example:
    first = 0
    if rng is not None and len(samples) > self.length:
      first = int(rng.integers(len(samples) - self.length + 1))
    samples = samples[first : first + self.length]
    array = np.zeros(self.length, np.float32)
    array[: len(samples)] = samples
    mask = np.arange(self.length) < len(samples)
    return {self.name: array, f'{self.name}_mask': mask}
