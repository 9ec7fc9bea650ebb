"""Published language models with sounds among their words."""

import functools
import itertools
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import interleaved, preprocess_audio, processors
from mmjax.types import Batch


class PublishedListener(interleaved.PublishedInterleaved):
  """A language model that hears, such as Qwen2-Audio.

  Sounds are paths of .wav files, or floats [N] in -1..1 at the rate of
  `sound_preprocessor.sample_rate`, at most as long as its window.
  """

  media: ClassVar[str] = 'sounds'

  @functools.cached_property
  def sound_preprocessor(self) -> preprocess_audio.AudioPreprocessor:
    """The preprocessor that turns sounds into spectrograms."""
    return preprocess_audio.AudioPreprocessor.from_config(
      *self.find_preprocessing(processors.SOUNDS)
    )

  def prepare_sounds(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Computes spectrograms.

    Args:
      rows: sounds of each text.

    Returns:
      Keys of the batch, and the grid of tokens of each sound of each text.

    Raises:
      ConfigError: for a sound that is longer than the window, or too short for
        a token.
    """
    most = max(map(len, rows))
    if not most:
      return {}, [[] for _ in rows]
    prepares = self.sound_preprocessor
    read = [[prepares.read_samples(sound) for sound in row] for row in rows]
    lengths = [len(samples) for samples in itertools.chain(*read)]
    for length in lengths:
      self._check_length(length)
    window = prepares.seconds * prepares.sample_rate
    number = self.find_number_of_frames(-(-max(lengths) // prepares.hop))
    # The last frames reach into silence, as those of a whole window do.
    size = min(window, number * prepares.hop + prepares.n_fft)
    samples = np.zeros((len(rows), most, size), np.float32)
    frames = np.zeros((len(rows), most), np.int32)
    for i, row in enumerate(read):
      for j, sound in enumerate(row):
        samples[i, j, : len(sound)] = sound
        frames[i, j] = -(-len(sound) // prepares.hop)
    spectrogram = np.asarray(prepares.spectrogram(samples.reshape(-1, size)))
    spectrogram = spectrogram[:, :number]
    shape = (len(rows), most, *spectrogram.shape[1:])
    grids = [
      [
        packing.Grid(1, 1, self._count_tokens(int(n)), sound=True)
        for n in frames[i, : len(row)]
      ]
      for i, row in enumerate(rows)
    ]
    return self.pack_spectrograms(spectrogram.reshape(shape), frames), grids

  def find_number_of_frames(self, longest: int) -> int:
    """Number of frames of the spectrograms of a batch, here of a whole window.

    Args:
      longest: number of frames of the longest sound.
    """
    del longest
    prepares = self.sound_preprocessor
    return prepares.seconds * prepares.sample_rate // prepares.hop

  def pack_spectrograms(self, spectrogram: Any, frames: np.ndarray) -> Batch:
    """Keys of the batch.

    Args:
      spectrogram: [B, n, F, M], n sounds a text.
      frames: [B, n], how many of the F frames are of the sound; 0 for none.
    """
    mask = np.arange(spectrogram.shape[2]) < frames[:, :, None]
    return {
      'spectrogram': jnp.asarray(spectrogram),
      'spectrogram_mask': jnp.asarray(mask),
    }

  def _check_length(self, number: int) -> None:
    prepares = self.sound_preprocessor
    seconds = number / prepares.sample_rate
    if seconds > prepares.seconds:
      raise ConfigError(
        f'a sound of {seconds:.1f} seconds is longer than the '
        f'{prepares.seconds} that the model reads; cut it'
      )
    if not self._count_tokens(-(-number // prepares.hop)):
      raise ConfigError(
        f'a sound of {number} samples is too short for a token; pad it with '
        'zeros'
      )

  def _count_tokens(self, frames: int) -> int:
    """Number of tokens of so many frames."""
    audio = self.module.audio
    return -(-frames // math.prod(audio.strides)) // audio.merged
