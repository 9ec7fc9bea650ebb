"""The loss of diffusion and flow matching."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import check_choice
from mmjax.objectives import presence
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Fraction,
  Items,
  Metrics,
  Outputs,
  Positive,
)

TIME_SAMPLERS = ('uniform', 'logit_normal')


@dataclasses.dataclass(frozen=True)
class Denoising:
  """Squared error of what a network predicts about noisy arrays.

  The mean over an array's values (Ho et al. 2020, equation 14, with epsilon;
  Liu et al. 2023, equation 1, with the velocity). Each example gets a time and
  noise of its own. The model needs `denoise`.

  Attributes:
    feature: name of the array that is drawn, [B, ...].
    output_key: name of the model's output that is drawn instead of this array
      itself, without a gradient to it; '' for none.
    method: name of the model's method that predicts.
    condition: name of what says what to draw; '' for nothing. An example needs
      both.
    schedule: the noise schedule, and what the network predicts.
    time_sampler: 'uniform', or 'logit_normal', the sigmoid of N(0, 1), which
      has more of the middle (Esser et al. 2024, equation 19).
    min_snr: gamma of min-SNR weighting (Hang et al. 2023); None for the same
      weight at all times.
    drop_condition: fraction of examples that are drawn without their condition,
      for guidance (Ho and Salimans 2022, algorithm 1).
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  feature: str = 'image'
  output_key: str = ''
  method: str = 'denoise'
  condition: str = ''
  schedule: ops.NoiseSchedule = dataclasses.field(
    default_factory=ops.NoiseSchedule
  )
  time_sampler: str = 'uniform'
  min_snr: Positive | None = None
  drop_condition: Fraction = 0.1

  def __post_init__(self):
    check_choice(self.time_sampler, TIME_SAMPLERS, 'time_sampler')

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the array and its condition."""
    return self._mask(batch).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Array],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and as a metric `error`, the same without weights."""
    del axis_name
    mask = self._mask(batch)
    x = batch[self.feature]
    if self.output_key:
      x = jax.lax.stop_gradient(presence.get_output(outputs, self.output_key))
    x = ops.zero_masked(x, mask).astype(jnp.float32)
    time_key, noise_key, drop_key, dropout = jax.random.split(rng, 4)
    times = self.schedule.compute_times(self.draw_uniform(time_key, len(x)))
    noise = jax.random.normal(noise_key, x.shape)
    levels = self.schedule.compute_levels(times)
    axes = range(1, x.ndim)
    alpha, sigma = (jnp.expand_dims(level, axes) for level in levels)
    predicted = apply(
      alpha * x + sigma * noise,
      times,
      batch,
      jax.random.bernoulli(drop_key, 1 - self.drop_condition, mask.shape),
      train=True,
      rngs={'dropout': dropout},
      method=self.method,
    )
    target = self.schedule.compute_target(x, noise, alpha, sigma)
    errors = jnp.square(predicted - target).mean(axis=axes)  # [B]
    losses = errors
    if self.min_snr is not None:
      losses *= self.schedule.min_snr_weight(*levels, self.min_snr)
    return (
      ops.masked_mean(losses, mask),
      {
        'error': ops.masked_mean(errors, mask),
        'items': Items(losses, mask),
      },
    )

  def draw_uniform(self, rng: Array, number: int) -> Array:
    """Numbers in [0, 1) [B] that `noise` makes times of."""
    if self.time_sampler == 'uniform':
      return jax.random.uniform(rng, (number,))
    drawn = jax.nn.sigmoid(jax.random.normal(rng, (number,)))
    return jnp.minimum(drawn, 1 - 1e-6)

  def _mask(self, batch: Batch) -> Array:
    features = (self.condition,) if self.condition else ()
    return presence.joint_mask(batch, self.feature, *features)
