"""Sounds to spectrograms as a preprocessor_config.json says."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax import ops
from mmjax.data import audio
from mmjax.types import Array

_KIND = 'WhisperFeatureExtractor'


@dataclasses.dataclass(frozen=True)
class AudioPreprocessor:
  """Cuts sounds into windows of one length, and takes their log-mel spectra.

  Attributes:
    num_mels: M, bands of a spectrogram.
    sample_rate: samples a second.
    hop: samples from one frame to the next.
    n_fft: samples that a frame is computed from.
    seconds: length of a window.
  """

  num_mels: int = 80
  sample_rate: int = 16_000
  hop: int = 160
  n_fft: int = 400
  seconds: int = 30

  @classmethod
  def from_config(cls, config: Mapping[str, Any]) -> 'AudioPreprocessor':
    """Reads a preprocessor_config.json.

    Raises:
      ValueError: if it asks for what mmjax does not do.
    """
    for field, known in (
      ('feature_extractor_type', _KIND),
      ('dither', 0.0),
      ('do_normalize', False),
      ('padding_value', 0.0),
    ):
      if config.get(field, known) != known:
        raise ValueError(
          f'preprocessor_config.json: {field} is {config[field]!r}; mmjax '
          f'reads sounds only with {known!r}'
        )
    return cls(
      num_mels=config.get('feature_size', cls.num_mels),
      sample_rate=config.get('sampling_rate', cls.sample_rate),
      hop=config.get('hop_length', cls.hop),
      n_fft=config.get('n_fft', cls.n_fft),
      seconds=config.get('chunk_length', cls.seconds),
    )

  def samples(self, sound: Any) -> np.ndarray:
    """Samples [N] float32 of one sound.

    Args:
      sound: path of a .wav file of any rate, or floats [N] in -1..1 at
        `sample_rate`.

    Raises:
      ValueError: if it is neither.
    """
    if isinstance(sound, str | Path):
      return audio.read(sound, self.sample_rate)
    sound = np.asarray(sound)
    if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
      raise ValueError(
        f'a sound is the path of a .wav file or floats [N] in -1..1 at '
        f'{self.sample_rate} samples a second, not {sound.dtype} '
        f'{list(sound.shape)}; whole numbers of 16 bits are divided by 32768, '
        'channels averaged'
      )
    return sound.astype(np.float32)

  def windows(self, samples: np.ndarray) -> np.ndarray:
    """Cuts samples [N] into windows [W, S], one after the other.

    The last one, which may be the only one, is filled up with silence.
    """
    size = self.seconds * self.sample_rate
    number = max(1, -(-len(samples) // size))
    return np.pad(samples, (0, number * size - len(samples))).reshape(-1, size)

  @functools.cached_property
  def spectrogram(self) -> Callable[[Array], Array]:
    """Windows [W, S] to spectrograms [W, F, M], jitted."""
    return jax.jit(
      functools.partial(
        ops.log_mel,
        num_mels=self.num_mels,
        n_fft=self.n_fft,
        hop=self.hop,
        sample_rate=self.sample_rate,
      )
    )
