"""How close images are to others, by their pixels."""

import numpy as np
from jaxtyping import Float

from mmjax.errors import ConfigError

# Side of the window, and its deviation (Wang et al. 2004, section III-C).
WINDOW, _DEVIATION = 11, 1.5


def peak_signal_to_noise(
  a: Float[np.ndarray, 'N H W C'], b: Float[np.ndarray, 'N H W C']
) -> Float[np.ndarray, ' N']:
  """Peak signal-to-noise ratio [N] in decibels of images in 0..1.

  -10 log10 of the mean squared error; infinite for equal images.

  Args:
    a: [N, H, W, C].
    b: [N, H, W, C].
  """
  errors = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3))
  with np.errstate(divide='ignore'):
    return -10 * np.log10(errors)


def structural_similarity(
  a: Float[np.ndarray, 'N H W C'], b: Float[np.ndarray, 'N H W C']
) -> Float[np.ndarray, ' N']:
  """Structural similarity [N] of images in 0..1, 1 for equal ones.

  Wang et al. 2004, equation 13, with their Gaussian window, a mean over the
  windows within the image and over channels.

  Args:
    a: [N, H, W, C].
    b: [N, H, W, C].

  Raises:
    ConfigError: for images smaller than the window.
  """
  if min(a.shape[1:3]) < WINDOW:
    raise ConfigError(
      f'structural similarity needs images of at least {WINDOW} pixels a '
      f'side, got {a.shape[1]} x {a.shape[2]}'
    )
  a, b = a.astype(np.float64), b.astype(np.float64)
  mean_a, mean_b = _blur(a), _blur(b)
  variance_a = _blur(a * a) - mean_a**2
  variance_b = _blur(b * b) - mean_b**2
  covariance = _blur(a * b) - mean_a * mean_b
  first, second = 0.01**2, 0.03**2
  similar = (2 * mean_a * mean_b + first) * (2 * covariance + second)
  similar /= mean_a**2 + mean_b**2 + first
  similar /= variance_a + variance_b + second
  return similar.mean(axis=(1, 2, 3))


def _blur(x: np.ndarray) -> np.ndarray:
  """The window's means of [N, H, W, C], without padding."""
  places = np.arange(WINDOW) - WINDOW // 2
  weights = np.exp(-0.5 * (places / _DEVIATION) ** 2)
  weights /= weights.sum()
  for axis in (1, 2):
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=axis)
    x = windows @ weights
  return x
