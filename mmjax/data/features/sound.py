"""Fields of one sound, or of several."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import audio, contact_sheet, drawings
from mmjax.data.features import base, images, several
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
    return self._cut(self.read_samples(value), None)

  def read_samples(self, value: Any) -> np.ndarray:
    """Reads float32 [N] at `rate` of a path, bytes, or floats [N] at `rate`.

    Raises:
      ConfigError: if it is neither, or can't be read or decoded.
    """
    data = (
      value if isinstance(value, bytes) else images.read_file(value, 'sound')
    )
    if data is not None:
      try:
        return audio.resample(*audio.decode(data), self.rate)
      except ConfigError as error:
        where = '' if isinstance(value, bytes) else f'{value}: '
        raise ConfigError(f'{where}{error}') from error
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
    return samples.astype(np.float32)

  @classmethod
  def render(cls, value: bytes) -> contact_sheet.Cell:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sounds(several.Several, several.StoredFiles, Sound):
  """Several sound files of a conversation, as the samples of one channel each.

  The array is float32 [n, S] in -1..1, its mask bool [n, S], S = rate *
  seconds. A field of one sound is read as a list of it. A sound of N samples
  has ceil(N / step) // merged tokens in a model.

  Attributes:
    number: n, most sounds; where conversations are packed, of a row.
    rate: samples a second; sounds of another rate are resampled.
    seconds: largest length in seconds; a longer sound is refused.
    step: samples from one token of the model's encoder to the next, before any
      are merged: the hop of its spectrogram times its strides.
    merged: number of these tokens that its encoder merges to one.
  """

  kind: ClassVar[str] = 'sounds'
  item_word: ClassVar[str] = 'sound'
  field_kinds: ClassVar[tuple[str, ...]] = ('sounds', 'sound')
  word: ClassVar[str] = 'sounds'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'rate',
    'seconds',
    'step',
    'merged',
  )

  number: int = 4
  step: int = 320
  merged: int = 1

  def __post_init__(self):
    super().__post_init__()
    for setting in ('number', 'step', 'merged'):
      if getattr(self, setting) < 1:
        self.refuse(setting, 'is not legal: at least 1')
    if self.length % self.step:
      self.refuse(
        'seconds',
        f'is not legal: {self.length} samples are not a multiple of step='
        f'{self.step}',
      )

  def get(self, record: Mapping[str, Any]) -> list[bytes] | None:
    value = super().get(record)
    return [value] if isinstance(value, bytes) else value

  def count_tokens(self, value: bytes | np.ndarray) -> int:
    """Number of a model's tokens of a sound, encoded or as floats at `rate`.

    Raises:
      ConfigError: if it can't be decoded, has none, or is longer than
        `seconds`.
    """
    if isinstance(value, bytes):
      samples, rate = audio.decode(value)
      number = audio.count_resampled(len(samples), rate, self.rate)
    else:
      number = len(value)
    self._check_length(number)
    tokens = -(-number // self.step) // self.merged
    if not tokens:
      raise ConfigError(
        f'a sound of {number} samples is too short for a token; pad it with '
        'zeros, or leave it out'
      )
    return tokens

  def _decode(self, data: bytes) -> np.ndarray:
    return self.read_samples(data)

  _read = _decode

  def join(self, examples: Sequence[base.Example]) -> base.Example:
    out = self.make_absent()
    start = 0
    for example in examples:
      number = int(example[f'{self.name}_mask'].any(axis=1).sum())
      for key, array in out.items():
        array[start : start + number] = example[key][:number]
      start += number
    return out

  @classmethod
  def render(cls, value: Sequence[bytes]) -> contact_sheet.Cell:
    cells = [Sound.render(item) for item in value]
    drawn = images.render_grid([image for image, _ in cells])
    return drawn, [line for _, lines in cells for line in lines][:4]

  def _check_length(self, number: int) -> None:
    if number > self.length:
      raise ConfigError(
        f'a sound of {number / self.rate:.1f} seconds is longer than '
        f'data.features.{self.name}.seconds={self.seconds}; cut it, or raise '
        'that where the model reads more'
      )

  def _combine(self, sounds: Sequence[np.ndarray]) -> base.Example:
    if len(sounds) > self.number:
      raise ConfigError(
        f'{len(sounds)} sounds are more than data.features.{self.name}.number='
        f'{self.number}; raise that'
      )
    array = np.zeros((self.number, self.length), np.float32)
    mask = np.zeros(array.shape, np.bool_)
    for row, samples in enumerate(sounds):
      self._check_length(len(samples))
      array[row, : len(samples)] = samples
      mask[row, : len(samples)] = True
    return {self.name: array, f'{self.name}_mask': mask}
