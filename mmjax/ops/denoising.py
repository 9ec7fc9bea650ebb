"""Samplers of diffusion and flow matching: from noise to data, step by step."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError, check_choice
from mmjax.ops.noise import NoiseSchedule
from mmjax.types import Array

SAMPLERS = ('ddpm', 'ddim', 'euler', 'heun', 'dpm++')
SPACINGS = ('leading', 'trailing', 'linspace')
# (x_t [B, ...], time []) -> the network's prediction [B, ...].
Denoise = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class StepTable:
  """The levels that a sampler goes through, from noise to data.

  Attributes:
    times: times at which the network is asked, float64 [N], falling.
    alphas: level of the data [N + 1]; the last is 1.
    sigmas: level of the noise [N + 1]; the last is 0.
  """

  times: np.ndarray
  alphas: np.ndarray
  sigmas: np.ndarray


def make_step_table(
  schedule: NoiseSchedule, steps: int, spacing: str = 'trailing'
) -> StepTable:
  """The levels of `steps` steps.

  Args:
    schedule: the schedule.
    steps: number of steps N.
    spacing: spacing of a table's 1000 times 0..999, 'leading' takes every k-th
      from 0 (DDIM), 'trailing' every k-th down from 999, and 'linspace' N
      between both ends (Lin et al. 2024, table 2). The times of the schedule
      'flow' are 1, 1 - 1 / N, ..., shifted; with 'linspace' N between 1 and the
      shifted 1 / 1000, which are then shifted, as the scheduler of Stable
      Diffusion 3 does (Esser et al. 2024, in diffusers).

  Raises:
    ConfigError: for an unknown spacing, or steps below 1 or above a table's.
  """
  check_choice(spacing, SPACINGS, 'spacing')
  total = schedule.STEPS
  if steps < 1 or (schedule.is_table and steps > total):
    raise ConfigError(
      f'steps={steps} is not legal; use a number from 1 to {total}'
    )
  if not schedule.is_table:
    even = 1 - np.arange(steps + 1) / steps
    if spacing == 'linspace':
      least = schedule.shift / (total - 1 + schedule.shift)
      even = np.append(np.linspace(1, least, steps), 0.0)
    sigmas = schedule.shift * even / (1 + (schedule.shift - 1) * even)
    return StepTable(sigmas[:-1], 1 - sigmas, sigmas)
  if spacing == 'leading':
    index = np.arange(steps)[::-1] * (total // steps)
  elif spacing == 'trailing':
    index = np.round(np.arange(total, 0, -total / steps))[:steps] - 1
  else:
    index = np.round(np.linspace(0, total - 1, steps))[::-1]
  index = index.astype(np.int64)
  shares = np.append(schedule.signal_shares()[index], 1.0)
  return StepTable(index / total, np.sqrt(shares), np.sqrt(1 - shares))


def sample(
  denoise: Denoise,
  initial_noise: Array,
  schedule: NoiseSchedule,
  *,
  steps: int,
  sampler: str = 'dpm++',
  spacing: str = 'trailing',
  rng: Array | None = None,
) -> Array:
  """Makes samples out of noise, in one compiled loop.

  With x and e the data and noise that a prediction means:

    ddim   x_s = alpha_s x + sigma_s e (Song et al. 2021, equation 12, eta 0)
    euler  the same: a step of Euler's in e / alpha against sigma / alpha is
           DDIM's, and so is one along the velocity of a flow
    ddpm   the same with eta = 1: noise of the posterior's variance (Ho et al.
           2020, equation 7)
    heun   the mean of the slopes at both ends of a step (Karras et al. 2022,
           algorithm 1); two predictions a step, one in the last
    dpm++  second order by the prediction of the step before (DPM-Solver++(2M),
           Lu et al. 2022, algorithm 2); its first and last step are of first
           order

  Args:
    denoise: the network's prediction, a function of x_t and its time.
    initial_noise: noise of N(0, 1) [B, ...].
    schedule: the schedule, and what the network predicts.
    steps: number of steps.
    sampler: one of `SAMPLERS`.
    spacing: spacing, as in `make_step_table`.
    rng: keys [B] of each example's noise, which 'ddpm' needs.

  Returns:
    Samples [B, ...].

  Raises:
    ConfigError: for an unknown sampler or spacing, or steps that the schedule
      doesn't have.
  """
  check_choice(sampler, SAMPLERS, 'sampler')
  table = make_step_table(schedule, steps, spacing)
  _check_first_step(schedule)
  if sampler == 'heun':
    return _sample_heun(denoise, initial_noise, schedule, table)
  if sampler == 'ddpm' and rng is None:
    raise ValueError("sampler 'ddpm' needs rng")
  rows = _find_coefficients(table, sampler)
  return _sample_linear(
    denoise,
    initial_noise,
    schedule,
    table,
    rows,
    rng if sampler == 'ddpm' else None,
  )


def _check_first_step(schedule: NoiseSchedule) -> None:
  if schedule.prediction == 'epsilon' and not schedule.is_table:
    raise ConfigError(
      "prediction='epsilon' says nothing about the data at the first step of "
      "schedule='flow', where there is none; use 'velocity' or 'x'"
    )


def _sample_linear(
  denoise: Denoise,
  initial_noise: Array,
  schedule: NoiseSchedule,
  table: StepTable,
  rows: np.ndarray,
  rng: Array | None,
) -> Array:
  """Steps that are sums with the factors of `_find_coefficients`."""
  draw = lambda key: jax.random.normal(
    key, initial_noise.shape[1:], initial_noise.dtype
  )

  def step(carry, per_step):
    noisy, before = carry
    number, time, alpha, sigma, row = per_step
    x, _ = schedule.recover(denoise(noisy, time), noisy, alpha, sigma)
    out = row[0] * noisy + row[1] * x + row[2] * before
    if rng is not None:
      keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(rng)
      out += row[3] * jax.vmap(draw)(keys)
    return (out, x), None

  levels = _as_arrays(table.times, table.alphas[:-1], table.sigmas[:-1], rows)
  carry = initial_noise, jnp.zeros_like(initial_noise)
  return jax.lax.scan(step, carry, (jnp.arange(len(rows)), *levels))[0][0]


def _as_arrays(*arrays: np.ndarray) -> list[Array]:
  return [jnp.asarray(array, jnp.float32) for array in arrays]


def _find_coefficients(table: StepTable, sampler: str) -> np.ndarray:
  """Factors [N, 4] of x_t, of x, of x at the step before, and of new noise."""
  alpha, sigma = table.alphas[:-1], table.sigmas[:-1]
  next_alpha, next_sigma = table.alphas[1:], table.sigmas[1:]
  zeros = np.zeros_like(alpha)
  fresh = zeros
  if sampler == 'ddpm':
    # Of the noise at the next level, so much is new; none at the last.
    kept = np.square(alpha / next_alpha)
    fresh = next_sigma / sigma * np.sqrt(np.maximum(1 - kept, 0))
    next_sigma = np.sqrt(np.maximum(np.square(next_sigma) - fresh**2, 0))
  ratio = next_sigma / sigma
  own = next_alpha - ratio * alpha
  before = zeros
  if sampler == 'dpm++':
    with np.errstate(divide='ignore', invalid='ignore'):
      width = np.diff(np.log(table.alphas / table.sigmas))  # h of each step
      extra = np.append(0.0, width[1:] / (2 * width[:-1]))
    extra[-1] = 0.0
    own, before = own * (1 + extra), -own * extra
  return np.stack([ratio, own, before, fresh], axis=1)


def _sample_heun(
  denoise: Denoise,
  initial_noise: Array,
  schedule: NoiseSchedule,
  table: StepTable,
) -> Array:
  """Heun's method; along sigma / alpha, or along the time of a flow."""
  scale, path = _find_path(schedule, table)
  levels = _as_arrays(scale, path, table.alphas, table.sigmas)
  times = jnp.asarray(np.append(table.times, 0.0), jnp.float32)

  def slope(z, level):
    return _find_slope(denoise, schedule, z, level)

  def step(z, ends):
    here, there = ends
    first = slope(z, here)
    width = there[2] - here[2]
    second = slope(z + width * first, there)
    return z + width * (first + second) / 2, None

  rows = (times, *levels)
  here = tuple(row[:-2] for row in rows)
  there = tuple(row[1:-1] for row in rows)
  z, _ = jax.lax.scan(step, initial_noise / levels[0][0], (here, there))
  last = tuple(row[-2] for row in rows)
  return z - last[2] * slope(z, last)


def _find_path(
  schedule: NoiseSchedule, table: StepTable
) -> tuple[np.ndarray, np.ndarray]:
  """(scale, path) [N + 1]: x_t / scale falls along `path` with a slope.

  The slope is e, or e - x of a flow.
  """
  scale = table.alphas if schedule.is_table else np.ones_like(table.alphas)
  return scale, table.sigmas / scale


def _find_slope(
  denoise: Denoise, schedule: NoiseSchedule, z: Array, level: Sequence[Array]
) -> Array:
  """The slope at z; `level` is (time, scale, path, alpha, sigma)."""
  time, scale, _, alpha, sigma = level
  x, e = schedule.recover(denoise(z * scale, time), z * scale, alpha, sigma)
  return e if schedule.is_table else e - x


def invert(
  denoise: Denoise,
  data: Array,
  schedule: NoiseSchedule,
  *,
  steps: int,
  spacing: str = 'trailing',
) -> Array:
  """The noise out of which 'ddim' makes these data again, about.

  DDIM inversion (Song et al. 2021, section 4.3; Dhariwal and Nichol 2021,
  appendix F): the sampler's steps in the other direction, each along the slope
  at its lower level, and the first, which has no noise there, at its upper one.

  Args:
    denoise: the network's prediction, a function of x_t and its time.
    data: [B, ...].
    schedule: the schedule, and what the network predicts.
    steps: number of steps.
    spacing: spacing, as in `make_step_table`.

  Returns:
    Noise [B, ...] of about N(0, 1), but for what is left of the data at the
    highest level.

  Raises:
    ConfigError: as `sample` does.
  """
  table = make_step_table(schedule, steps, spacing)
  _check_first_step(schedule)
  scale, path = _find_path(schedule, table)
  here = np.minimum(np.arange(steps) + 1, steps - 1)
  levels = _as_arrays(
    *(x[here] for x in (table.times, scale, path, table.alphas, table.sigmas)),
    path[:-1] - path[1:],
  )

  def step(z, row):
    *level, width = row
    return z + width * _find_slope(denoise, schedule, z, level), None

  z, _ = jax.lax.scan(step, data, levels, reverse=True)
  return z * jnp.asarray(scale[0], z.dtype)
