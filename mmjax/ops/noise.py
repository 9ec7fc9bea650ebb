"""Noise schedules of diffusion and flow matching.

A noisy sample at time t in [0, 1] is x_t = alpha(t) x + sigma(t) e, with noise
e of N(0, 1): at 0 about the data, at 1 about noise alone.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError, check_choice
from mmjax.types import Array

SCHEDULES = ('linear', 'scaled_linear', 'cosine', 'flow')
PREDICTIONS = ('epsilon', 'x', 'v', 'velocity')


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
  """How much noise there is at each time, and what a network predicts.

  Schedules, all of 1000 steps as published:

    linear         betas from 1e-4 to 0.02 (DDPM, Ho et al. 2020, section 4)
    scaled_linear  their square roots linear, from 8.5e-4 to 0.012 (Rombach et
                   al. 2022, in their code)
    cosine         alpha^2 a squared cosine (Nichol and Dhariwal 2021,
                   equation 17)
    flow           alpha = 1 - t, sigma = t (rectified flow, Liu et al. 2023)

  The first three have alpha^2 + sigma^2 = 1 and exist at the times k / 1000.
  Predictions of the network, where x is the data and e the noise:

    epsilon   e (Ho et al. 2020)
    x         x
    v         alpha e - sigma x (Salimans and Ho 2022, section 4)
    velocity  e - x, with the schedule 'flow' alone

  Attributes:
    schedule: one of `SCHEDULES`.
    prediction: one of `PREDICTIONS`.
    shift: factor s of the schedule 'flow' for larger images, whose time t
      becomes s t / (1 + (s - 1) t) (Esser et al. 2024, equation 23).
  """

  schedule: str = 'flow'
  prediction: str = 'velocity'
  shift: float = 1.0

  # Number of times of the schedules that are tables.
  STEPS = 1000

  def __post_init__(self):
    check_choice(self.schedule, SCHEDULES, 'schedule')
    check_choice(self.prediction, PREDICTIONS, 'prediction')
    if (self.prediction == 'velocity') != (self.schedule == 'flow') and (
      self.prediction in ('v', 'velocity')
    ):
      raise ConfigError(
        f'prediction={self.prediction!r} does not go with '
        f"schedule={self.schedule!r}; 'velocity' is for 'flow', 'v' for the "
        'others'
      )
    if not self.shift > 0 or (self.shift != 1 and self.schedule != 'flow'):
      raise ConfigError(
        f'shift={self.shift} is not legal: it is above 0, and other than 1 '
        "with schedule='flow' alone"
      )

  @property
  def is_table(self) -> bool:
    """Whether times are multiples of 1 / 1000."""
    return self.schedule != 'flow'

  def signal_shares(self) -> np.ndarray:
    """alpha^2 at the times 0, 1 / 1000, ... of a table, float64 [1000]."""
    if self.schedule == 'linear':
      betas = np.linspace(1e-4, 0.02, self.STEPS)
    elif self.schedule == 'scaled_linear':
      betas = np.linspace(8.5e-4**0.5, 0.012**0.5, self.STEPS) ** 2
    else:
      edges = np.arange(self.STEPS + 1) / self.STEPS
      share = np.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
      betas = np.minimum(1 - share[1:] / share[:-1], 0.999)
    return np.cumprod(1 - betas)

  def compute_times(self, uniform: Array) -> Array:
    """Times of numbers in [0, 1): the table's, or shifted ones."""
    if self.is_table:
      return jnp.floor(uniform * self.STEPS) / self.STEPS
    return self.shift * uniform / (1 + (self.shift - 1) * uniform)

  def compute_levels(self, times: Array) -> tuple[Array, Array]:
    """alpha and sigma at times [B] that `compute_times` made."""
    if not self.is_table:
      return 1 - times, times
    index = jnp.round(times * self.STEPS).astype(jnp.int32)
    shares = self.signal_shares()
    alpha = jnp.asarray(np.sqrt(shares), jnp.float32)[index]
    return alpha, jnp.asarray(np.sqrt(1 - shares), jnp.float32)[index]

  def compute_target(
    self, x: Array, noise: Array, alpha: Array, sigma: Array
  ) -> Array:
    """What the network should predict; levels broadcast against x."""
    return {
      'epsilon': noise,
      'x': x,
      'v': alpha * noise - sigma * x,
      'velocity': noise - x,
    }[self.prediction]

  def recover(
    self, output: Array, noisy: Array, alpha: Array, sigma: Array
  ) -> tuple[Array, Array]:
    """The data x and the noise e that a prediction means.

    Args:
      output: the network's.
      noisy: x_t.
      alpha: level of the data, which broadcasts against x_t. It must not be 0
        with 'epsilon'.
      sigma: level of the noise; not 0 with 'x'.
    """
    if self.prediction == 'epsilon':
      return (noisy - sigma * output) / alpha, output
    if self.prediction == 'x':
      return output, (noisy - alpha * output) / sigma
    if self.prediction == 'v':
      return alpha * noisy - sigma * output, sigma * noisy + alpha * output
    return noisy - sigma * output, noisy + alpha * output

  def min_snr_weight(self, alpha: Array, sigma: Array, limit: float) -> Array:
    """Weight of squared errors: min(SNR, limit) of those of x.

    Min-SNR (Hang et al. 2023, section 3.4): the signal-to-noise ratio is
    alpha^2 / sigma^2. An error of the prediction makes one of x that is larger
    by a factor, and the weight has the factor's square.

    Args:
      alpha: level of the data.
      sigma: level of the noise.
      limit: gamma, 5 in the paper.
    """
    ratio = jnp.square(alpha) / jnp.square(jnp.maximum(sigma, 1e-4))
    factor = {
      'epsilon': 1 / jnp.maximum(ratio, 1e-8),
      'x': jnp.ones_like(sigma),
      'v': jnp.square(sigma),
      'velocity': jnp.square(sigma),
    }[self.prediction]
    return jnp.minimum(ratio, limit) * factor
