"""Reads sound files as arrays."""

import math
import wave
from pathlib import Path

import numpy as np

from mmjax.errors import ConfigError


def read(path: Path | str, sample_rate: int) -> np.ndarray:
  """Reads a .wav file (uncompressed, 8 to 32 bits) as one channel.

  Args:
    path: path of the file.
    sample_rate: samples a second of the result.

  Returns:
    float32 [samples] in -1..1, the mean of the file's channels.

  Raises:
    FileNotFoundError: if there is no such file.
    ConfigError: if it is not an uncompressed .wav file.
  """
  try:
    with wave.open(str(path), 'rb') as file:
      channels, width, rate, *_ = file.getparams()
      data = file.readframes(file.getnframes())
  except (wave.Error, EOFError) as error:
    raise ConfigError(
      f'{path} is not an uncompressed .wav file ({error}); convert it, for '
      'instance with sox or ffmpeg'
    ) from error
  whole = len(data) // (channels * width) * channels * width
  samples = _decode(data[:whole], width).reshape(-1, channels).mean(axis=1)
  return resample(samples, rate, sample_rate)


def resample(
  samples: np.ndarray, sample_rate: int, target_rate: int
) -> np.ndarray:
  """Resamples a signal without aliasing.

  Uses a polyphase filter (`scipy.signal.resample_poly`, a Kaiser window of 5).

  Args:
    samples: [N], any number type.
    sample_rate: samples a second of `samples`.
    target_rate: samples a second of the result.

  Returns:
    float32 [N * target_rate / sample_rate, rounded up].
  """
  samples = np.asarray(samples, np.float32)
  if sample_rate == target_rate:
    return samples
  import scipy.signal  # Importing it takes a second.

  common = math.gcd(sample_rate, target_rate)
  resampled = scipy.signal.resample_poly(
    samples.astype(np.float64), target_rate // common, sample_rate // common
  )
  return resampled.astype(np.float32)


def _decode(data: bytes, width: int) -> np.ndarray:
  """Converts integers of `width` bytes to floats in -1..1."""
  if width == 1:  # 8-bit samples are unsigned.
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
  # Shifts the samples into the upper bytes of 32 bits.
  raw = np.frombuffer(data, np.uint8).reshape(-1, width)
  padded = np.zeros((len(raw), 4), np.uint8)
  padded[:, 4 - width :] = raw
  return (padded.view('<i4')[:, 0] / 2**31).astype(np.float32)
