"""Decodes sound files, and changes their sample rate."""

import fractions
import io
import os
import wave
from pathlib import Path

import numpy as np

from mmjax.data import file_paths, images
from mmjax.errors import ConfigError

# Bytes of samples from which a WAV file's length means that it is not known.
_UNKNOWN_LENGTH = 0x7FFF0000


def read(path: Path | str, sample_rate: int) -> np.ndarray:
  """Reads a sound file as one channel.

  Args:
    path: path of the file.
    sample_rate: samples a second of the result.

  Returns:
    float32 [samples] in -1..1, the mean of the file's channels.

  Raises:
    ConfigError: if the file can't be read, or not be decoded as a sound.
  """
  data = file_paths.read_bytes(path, 'sound')
  try:
    samples, rate = decode(data)
  except ConfigError as error:
    raise ConfigError(f'{os.fspath(path)}: {error}') from error
  return resample(samples, rate, sample_rate)


def decode(data: bytes) -> tuple[np.ndarray, int]:
  """Decodes a sound file.

  Uncompressed WAV files of 8 to 32 bits need nothing further; all others (FLAC,
  Ogg, MP3, AIFF, WAV with floats, ...) are read by the package soundfile.

  Args:
    data: contents of the file.

  Returns:
    float32 [samples] in -1..1, the mean of the channels, and the samples a
    second.

  Raises:
    ConfigError: if it is not a sound file, a damaged or an empty one, or the
      package soundfile is needed and not installed.
  """
  samples, rate = _decode_wave(data) or _decode_other(data)
  if not len(samples):
    raise ConfigError('the sound has no samples')
  if not np.isfinite(samples).all():
    raise ConfigError('the sound has samples that are NaN or infinite')
  return samples.mean(axis=1, dtype=np.float32), rate


def _decode_wave(data: bytes) -> tuple[np.ndarray, int] | None:
  """Samples [N, channels] of an uncompressed WAV file; None for others."""
  try:
    with wave.open(io.BytesIO(data), 'rb') as file:
      channels, width, rate, count, *_ = file.getparams()
      frames = file.readframes(count)
  # A damaged header makes the module raise struct.error and others.
  except Exception:
    return None
  if width not in (1, 2, 3, 4) or not channels or not rate:
    return None
  size = channels * width
  whole = len(frames) // size * size
  # A program that writes to a pipe doesn't know the length.
  if whole < count * size < _UNKNOWN_LENGTH:
    raise ConfigError(
      f'the sound is cut: it has {whole // size:,} of {count:,} samples'
    )
  return _to_floats(frames[:whole], width).reshape(-1, channels), rate


def _decode_other(data: bytes) -> tuple[np.ndarray, int]:
  try:
    import soundfile
  except ImportError as error:
    raise ConfigError(
      'it is not an uncompressed WAV file; other sound files need the package '
      "soundfile: pip install 'mmjax[sound]'"
    ) from error
  try:
    return soundfile.read(io.BytesIO(data), dtype='float32', always_2d=True)
  except Exception as error:  # LibsndfileError, RuntimeError, TypeError, ...
    raise ConfigError(
      f'not a readable sound ({len(data)} bytes, which begin with '
      f'{data[:12]!r}): {images.explain_error(error)}'
    ) from error


def encode_wave(samples: np.ndarray, sample_rate: int) -> bytes:
  """Encodes samples [N] in -1..1 as a WAV file of 16 bits."""
  file = io.BytesIO()
  with wave.open(file, 'wb') as out:
    out.setnchannels(1)
    out.setsampwidth(2)
    out.setframerate(sample_rate)
    scaled = np.round(np.clip(samples, -1, 1) * 32767)
    out.writeframes(scaled.astype('<i2').tobytes())
  return file.getvalue()


def resample(
  samples: np.ndarray, sample_rate: float, target_rate: float
) -> np.ndarray:
  """Resamples a signal without aliasing.

  Uses a polyphase filter (`scipy.signal.resample_poly`, a Kaiser window of 5).

  Args:
    samples: [N] or [N, C], any number type.
    sample_rate: samples a second of `samples`.
    target_rate: samples a second of the result.

  Returns:
    float32 [N * target_rate / sample_rate, rounded up] or [..., C].
  """
  samples = np.asarray(samples, np.float32)
  if sample_rate == target_rate:
    return samples
  import scipy.signal  # Importing it takes a second.

  up, down = _ratio(target_rate, sample_rate)
  resampled = scipy.signal.resample_poly(
    samples.astype(np.float64), up, down, axis=0
  )
  return resampled.astype(np.float32)


def count_resampled(number: int, sample_rate: float, target_rate: float) -> int:
  """Number of samples that `resample` makes of so many."""
  if sample_rate == target_rate:
    return number
  up, down = _ratio(target_rate, sample_rate)
  return -(-number * up // down)


def _ratio(target_rate: float, sample_rate: float) -> tuple[int, int]:
  """Whole numbers with the ratio of two rates, which may have fractions."""
  if target_rate < sample_rate:
    return _ratio(sample_rate, target_rate)[::-1]
  ratio = target_rate / sample_rate
  # Rates of sounds have small ratios; those of series may have any.
  exact = fractions.Fraction(ratio).limit_denominator(10_000)
  return exact.numerator, exact.denominator


def _to_floats(data: bytes, width: int) -> np.ndarray:
  """Converts integers of `width` bytes to floats in -1..1."""
  if width == 1:  # 8-bit samples are unsigned.
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
  # Shifts the samples into the upper bytes of 32 bits.
  raw = np.frombuffer(data, np.uint8).reshape(-1, width)
  padded = np.zeros((len(raw), 4), np.uint8)
  padded[:, 4 - width :] = raw
  return (padded.view('<i4')[:, 0] / 2**31).astype(np.float32)
