"""Turns sounds into spectrograms, by a preprocessor_config.json."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.data import audio
from mmjax.errors import ConfigError
from mmjax.pretrained import preprocess, sections
from mmjax.types import Array

WHISPER_SECTION = sections.Section(
  read=(
    'chunk_length',
    'feature_size',
    'hop_length',
    'n_fft',
    'sampling_rate',
  ),
  only={
    'dither': 0.0,
    'do_normalize': False,
    'feature_extractor_type': 'WhisperFeatureExtractor',
    'padding_side': 'right',
    'padding_value': 0.0,
  },
  # The first three follow from the keys that are read.
  irrelevant=(
    'mel_filters',
    'n_samples',
    'nb_max_frames',
    'processor_class',
    'return_attention_mask',
  ),
)
AST_SECTION = sections.Section(
  read=(
    'do_normalize',
    'max_length',
    'mean',
    'num_mel_bins',
    'sampling_rate',
    'std',
  ),
  only={
    'feature_extractor_type': 'ASTFeatureExtractor',
    'feature_size': 1,
    'padding_side': 'right',
    'padding_value': 0.0,
  },
  irrelevant=('processor_class', 'return_attention_mask'),
)
# The sampling rate is also in config.json, which decides.
ENCODEC_SECTION = sections.Section(
  read=('sampling_rate',),
  only={
    'chunk_length_s': None,
    'feature_extractor_type': 'EncodecFeatureExtractor',
    'feature_size': 1,
    'overlap': None,
    'padding_side': 'right',
    'padding_value': 0.0,
  },
  irrelevant=('processor_class', 'return_attention_mask'),
)


@dataclasses.dataclass(frozen=True)
class AudioPreprocessor:
  """Cuts sounds into windows and computes their log-mel spectrograms.

  Attributes:
    num_mels: M, number of bands of a spectrogram.
    sample_rate: samples per second.
    hop: samples from one frame to the next.
    n_fft: samples of a frame.
    seconds: length of a window in seconds.
  """

  num_mels: int = 80
  sample_rate: int = 16_000
  hop: int = 160
  n_fft: int = 400
  seconds: int = 30

  @classmethod
  def from_config(
    cls, config: Mapping[str, Any], file: str = preprocess.FILE
  ) -> 'AudioPreprocessor':
    """Reads a preprocessor_config.json.

    Args:
      config: contents of the file.
      file: name of the file, for errors.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    sections.check_file(config, WHISPER_SECTION, file)
    return cls(
      num_mels=config.get('feature_size', cls.num_mels),
      sample_rate=config.get('sampling_rate', cls.sample_rate),
      hop=config.get('hop_length', cls.hop),
      n_fft=config.get('n_fft', cls.n_fft),
      seconds=config.get('chunk_length', cls.seconds),
    )

  def read_samples(self, sound: Any) -> np.ndarray:
    """Reads the samples [N] float32 of one sound.

    Args:
      sound: path or bytes of a .wav file of any rate, or floats [N] in -1..1
        at `sample_rate`.

    Raises:
      ConfigError: if it is neither.
    """
    return _read_samples(sound, self.sample_rate)

  def cut_windows(self, samples: np.ndarray) -> np.ndarray:
    """Cuts samples [N] into windows [W, S], one after the other.

    The last one is padded with silence.
    """
    size = self.seconds * self.sample_rate
    number = max(1, -(-len(samples) // size))
    return np.pad(samples, (0, number * size - len(samples))).reshape(-1, size)

  @functools.cached_property
  def spectrogram(self) -> Callable[[Array], Array]:
    """Jitted function of windows [W, S] to spectrograms [W, F, M]."""
    return jax.jit(
      functools.partial(
        ops.log_mel,
        num_mels=self.num_mels,
        n_fft=self.n_fft,
        hop=self.hop,
        sample_rate=self.sample_rate,
      )
    )


@dataclasses.dataclass(frozen=True)
class FbankPreprocessor:
  """Kaldi's filter banks of the first seconds of a sound.

  Attributes:
    num_mels: M, number of bands of a spectrogram.
    sample_rate: samples per second.
    num_frames: F; shorter sounds are padded with zeros before the
      normalisation, longer ones are cut.
    mean: mean that is subtracted from the logarithms.
    scale: divisor of the result.
    FRAME: samples of a frame.
    HOP: samples from one frame to the next.
  """

  num_mels: int = 128
  sample_rate: int = 16_000
  num_frames: int = 1024
  mean: float = 0.0
  scale: float = 1.0

  FRAME: ClassVar[int] = ops.FBANK_FRAME
  HOP: ClassVar[int] = 160

  @classmethod
  def from_config(
    cls, config: Mapping[str, Any], file: str = preprocess.FILE
  ) -> 'FbankPreprocessor':
    """Reads a preprocessor_config.json.

    Args:
      config: contents of the file.
      file: name of the file, for errors.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    sections.check_file(config, AST_SECTION, file)
    normalises = config.get('do_normalize', True)
    return cls(
      num_mels=config.get('num_mel_bins', cls.num_mels),
      sample_rate=config.get('sampling_rate', cls.sample_rate),
      num_frames=config.get('max_length', cls.num_frames),
      mean=config.get('mean', -4.2677393) if normalises else 0.0,
      scale=2 * config.get('std', 4.5689974) if normalises else 1.0,
    )

  @property
  def length(self) -> int:
    """Number of samples of the longest sound."""
    return self.FRAME + self.HOP * (self.num_frames - 1)

  def __call__(self, sounds: Sequence[Any]) -> Array:
    """Computes spectrograms [B, F, M] of sounds.

    Args:
      sounds: paths of .wav files of any rate, or floats [N] in -1..1 at
        `sample_rate`.

    Raises:
      ConfigError: if one is neither, or shorter than a frame of 25 ms.
    """
    size = self.length
    samples = np.zeros((len(sounds), size), np.float32)
    frames = np.zeros(len(sounds), np.int32)
    for row, sound in enumerate(sounds):
      sound_samples = _read_samples(sound, self.sample_rate)[:size]
      if len(sound_samples) < self.FRAME:
        raise ConfigError(
          f'a sound has {len(sound_samples)} samples, less than a frame, '
          f'{self.FRAME}; leave it out or pad it with zeros'
        )
      samples[row, : len(sound_samples)] = sound_samples
      frames[row] = 1 + (len(sound_samples) - self.FRAME) // self.HOP
    return self._compute(samples, frames)

  @functools.cached_property
  def _compute(self) -> Callable[[Array, Array], Array]:
    """Jitted function of samples [B, S] and numbers of frames [B]."""

    def compute(samples: Array, frames: Array) -> Array:
      banks = ops.log_fbank(
        samples,
        num_mels=self.num_mels,
        frame=self.FRAME,
        hop=self.HOP,
        sample_rate=self.sample_rate,
      )
      is_frame = jnp.arange(self.num_frames)[None] < frames[:, None]
      banks = jnp.where(is_frame[:, :, None], banks, 0.0)
      return (banks - self.mean) / self.scale

    return jax.jit(compute)


@dataclasses.dataclass(frozen=True)
class SamplePreprocessor:
  """Reads sounds as the samples themselves.

  Attributes:
    sample_rate: samples per second.
  """

  sample_rate: int

  @classmethod
  def from_config(
    cls,
    config: Mapping[str, Any],
    sample_rate: int,
    file: str = preprocess.FILE,
  ) -> 'SamplePreprocessor':
    """Reads a preprocessor_config.json.

    Args:
      config: contents of the file.
      sample_rate: that of config.json, which the file has to have.
      file: name of the file, for errors.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    sections.check_file(config, ENCODEC_SECTION, file)
    found = config.get('sampling_rate', sample_rate)
    if found != sample_rate:
      raise ConfigError(
        f'{file}: sampling_rate is {found}, but that of config.json is '
        f'{sample_rate}; take both files from one model'
      )
    return cls(sample_rate)

  def __call__(self, sounds: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
    """Reads sounds to samples [B, N] float32, and the length of each.

    Args:
      sounds: paths of .wav files of any rate, or floats [N] in -1..1 at
        `sample_rate`; shorter ones are padded with silence at the end.

    Raises:
      ConfigError: if one is neither, or has no samples.
    """
    rows = [_read_samples(sound, self.sample_rate) for sound in sounds]
    lengths = [len(row) for row in rows]
    if min(lengths, default=0) == 0:
      raise ConfigError(
        'a sound has no samples, or there is none; give at least one, with '
        'samples'
      )
    samples = np.zeros((len(rows), max(lengths)), np.float32)
    for row, filled in zip(rows, samples, strict=True):
      filled[: len(row)] = row
    return samples, lengths


def _read_samples(sound: Any, sample_rate: int) -> np.ndarray:
  """Reads the samples [N] float32 of one sound."""
  if isinstance(sound, str | Path):
    return audio.read(sound, sample_rate)
  if isinstance(sound, bytes):
    return audio.resample(*audio.decode(sound), sample_rate)
  sound = np.asarray(sound)
  if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
    raise ConfigError(
      f'a sound is the path of a .wav file or floats [N] in -1..1 at '
      f'{sample_rate} samples a second, not {sound.dtype} '
      f'{list(sound.shape)}; divide 16-bit integers by 32768, and average '
      'channels'
    )
  if not np.isfinite(sound).all():
    raise ConfigError(
      f'a sound has {np.size(sound) - np.isfinite(sound).sum()} samples that '
      'are not finite; replace them, or leave it out'
    )
  return sound.astype(np.float32)
