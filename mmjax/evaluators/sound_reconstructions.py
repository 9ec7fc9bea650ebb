"""Evaluates sounds that an autoencoder encodes and decodes."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.data import drawings
from mmjax.evaluators import reconstructions
from mmjax.metrics import sound_quality
from mmjax.types import Batch


class SoundReconstructions(reconstructions.Reconstructions):
  """How close reconstructions of sounds are, and how many codes are used.

  As `Reconstructions`, of samples [B, N] instead of images. Yields `NAME/snr`,
  the ratio of a sound's power to that of the error, in decibels;
  `NAME/spectral`, the distance of their spectra, and `NAME/silent_spectral`,
  that of silence; and `NAME/perplexity` and `NAME/used` of the tokens.
  """

  _task: ClassVar[str] = 'tasks.reconstruct_sound'

  def _read(self, found: Any) -> np.ndarray:
    return np.asarray(found)

  def _read_true(self, batch: Batch) -> np.ndarray:
    return np.asarray(batch[self._feature])

  def _measure(
    self, true: np.ndarray, found: np.ndarray
  ) -> dict[str, np.ndarray]:
    one, other = jnp.asarray(true), jnp.asarray(found)
    distance = lambda x: np.asarray(ops.spectral_distance(one, x))
    return {
      'snr': sound_quality.signal_to_noise(true, found),
      'spectral': distance(other),
      'silent_spectral': distance(jnp.zeros_like(one)),
    }

  def _draw(self, value: np.ndarray) -> np.ndarray:
    return drawings.draw_sound(value)
