"""How close sounds are to others."""

import numpy as np


def signal_to_noise(true: np.ndarray, found: np.ndarray) -> np.ndarray:
  """Ratio of the power of sounds to that of their errors, in decibels.

  0 for silence, 100 at most, and 0 where the true sound is silent.

  Args:
    true: samples [N, S].
    found: samples [N, S], as close as possible.

  Returns:
    [N].
  """
  power = np.square(true).sum(axis=-1)
  error = np.square(true - found).sum(axis=-1)
  heard = np.maximum(power, 1e-12)
  ratio = heard / np.maximum(error, 1e-10 * heard)
  return np.where(power > 0, 10 * np.log10(ratio), 0.0)
