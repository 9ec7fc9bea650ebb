"""Samplers, on data whose denoiser is known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.ops import denoising

MEAN, DEVIATION = 0.7, 0.4
NOISES = {
  'epsilon': ops.NoiseSchedule('linear', 'epsilon'),
  'x': ops.NoiseSchedule('cosine', 'x'),
  'v': ops.NoiseSchedule('scaled_linear', 'v'),
  'velocity': ops.NoiseSchedule(shift=2.0),
}
every_noise = pytest.mark.parametrize('name', NOISES)


def predict(noise, deviation, noisy, time):
  """The best prediction for data of N(MEAN, deviation^2)."""
  alpha, sigma = noise.compute_levels(time)
  spread = (alpha * deviation) ** 2 + sigma**2
  share = alpha * deviation**2 / spread
  x = MEAN + share * (noisy - alpha * MEAN)
  e = sigma / spread * (noisy - alpha * MEAN)
  return noise.compute_target(x, e, alpha, sigma)


@functools.cache
def compile_sampler(name, deviation, **settings):
  noise = NOISES[name]
  return jax.jit(
    lambda start, rng: ops.sample(
      functools.partial(predict, noise, deviation),
      start,
      noise,
      rng=rng,
      **settings,
    )
  )


def run(name, deviation, start, **settings):
  sampler = compile_sampler(name, deviation, **settings)
  keys = jax.random.split(jax.random.key(1), len(start))
  return np.asarray(sampler(start, keys))


@every_noise
@pytest.mark.parametrize('sampler', denoising.SAMPLERS)
def test_one_point_is_found_exactly_in_three_steps(name, sampler):
  start = jax.random.normal(jax.random.key(0), (5, 2))
  got = run(name, 0.0, start, steps=3, sampler=sampler)
  np.testing.assert_allclose(got, MEAN, rtol=0, atol=2e-4)


def ideal(name, start, steps, spacing='trailing'):
  """Where the flow of a Gaussian takes noise: its quantiles stay."""
  table = ops.make_step_table(NOISES[name], steps, spacing)
  alpha, sigma = table.alphas[0], table.sigmas[0]
  spread = np.sqrt((alpha * DEVIATION) ** 2 + sigma**2)
  return MEAN + DEVIATION * (np.asarray(start) - alpha * MEAN) / spread


@every_noise
@pytest.mark.parametrize(
  'sampler, ratio, limit',
  [('ddim', 3, 0.04), ('heun', 10, 0.02), ('dpm++', 2, 0.03)],
)
def test_errors_fall_with_the_number_of_steps(name, sampler, ratio, limit):
  start = jnp.linspace(-2, 2, 5)[:, None]
  # In four times as many steps, errors of first order fall by 4, of second by
  # 16. The first and last step of 'dpm++' are of first order.
  errors = [
    np.abs(
      run(name, DEVIATION, start, steps=n, sampler=sampler, spacing='linspace')
      - ideal(name, start, n, 'linspace')
    ).max()
    for n in (20, 80)
  ]
  assert errors[1] < errors[0] / ratio
  assert errors[1] < limit


@every_noise
def test_ddpm_gives_the_distribution_of_the_data(name):
  start = jax.random.normal(jax.random.key(0), (4_000, 1))
  got = run(name, DEVIATION, start, steps=200, sampler='ddpm')
  # Sampling errors are below 0.01; 200 steps leave up to 0.03.
  assert abs(got.mean() - MEAN) < 0.03
  assert abs(got.std() - DEVIATION) < 0.045


@every_noise
def test_predictions_mean_what_they_were_made_of(name):
  noise = NOISES[name]
  rng = np.random.default_rng(0)
  x, e = jnp.asarray(rng.normal(size=(2, 3, 1)), jnp.float32)
  times = noise.compute_times(jnp.asarray([0.1, 0.5, 0.8]))
  alpha, sigma = (level[:, None] for level in noise.compute_levels(times))
  noisy = alpha * x + sigma * e
  output = noise.compute_target(x, e, alpha, sigma)
  for got, want in zip(
    noise.recover(output, noisy, alpha, sigma), (x, e), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
  # The weight turns a prediction's error into that of x, up to min(SNR, 5).
  moved = noise.recover(output + 1e-1, noisy, alpha, sigma)[0]
  ratio = np.square(alpha / sigma)
  np.testing.assert_allclose(
    noise.min_snr_weight(alpha, sigma, 5.0) * 1e-2,
    np.minimum(ratio, 5) * np.square(moved - x),
    rtol=1e-2,
  )


def test_times_of_a_shifted_flow_are_later():
  table = ops.make_step_table(ops.NoiseSchedule(shift=3.0), 4)
  # s t / (1 + (s - 1) t) at t = 1, 3/4, 1/2, 1/4, 0.
  np.testing.assert_allclose(table.sigmas, [1, 0.9, 0.75, 0.5, 0])


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'schedule': 'quadratic'}, "schedule 'quadratic' is unknown"),
    ({'prediction': 'v'}, "prediction='v' does not go with schedule='flow'"),
    ({'schedule': 'cosine'}, "prediction='velocity' does not go with"),
    ({'shift': 0.0}, 'shift=0.0 is not legal'),
  ],
)
def test_settings_that_are_not_legal_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    ops.NoiseSchedule(**settings)


@pytest.mark.parametrize(
  'noise, settings, message',
  [
    (NOISES['x'], {'steps': 0}, 'steps=0 is not legal'),
    (NOISES['x'], {'steps': 1001}, 'use a number from 1 to 1000'),
    (NOISES['x'], {'steps': 5, 'sampler': 'rk4'}, "sampler 'rk4' is unknown"),
    (
      ops.NoiseSchedule('flow', 'epsilon'),
      {'steps': 5},
      'says nothing about the data',
    ),
  ],
)
def test_samplers_refuse_what_they_cannot_do(noise, settings, message):
  with pytest.raises(ConfigError, match=message):
    ops.sample(lambda x, t: x, jnp.zeros((1, 1)), noise, **settings)


@every_noise
def test_inverted_noise_gives_the_data_again(name):
  data = MEAN + DEVIATION * jnp.linspace(-2, 2, 5)[:, None]
  noise, steps = NOISES[name], 240
  denoise = functools.partial(predict, noise, DEVIATION)
  start = jax.jit(lambda x: ops.invert(denoise, x, noise, steps=steps))(data)
  # Quantiles stay: the noise is that of the exact flow, too. Errors are of
  # first order, four times as large with 60 steps.
  np.testing.assert_allclose(ideal(name, start, steps), data, atol=0.015)
  again = run(name, DEVIATION, start, steps=steps, sampler='ddim')
  np.testing.assert_allclose(again, data, atol=0.03)


def test_slerp_stays_on_the_arc():
  first, second = jnp.asarray([[3.0, 0.0]]), jnp.asarray([[0.0, 3.0]])
  out = ops.slerp(first, second, jnp.asarray([0.0, 1 / 3, 1.0]))
  want = [[3, 0], [3 * 0.75**0.5, 1.5], [0, 3]]
  np.testing.assert_allclose(out, want, atol=1e-6)
  same = ops.slerp(first, first, jnp.asarray([0.0, 0.3]))
  np.testing.assert_allclose(same, [[3, 0], [3, 0]], atol=1e-6)
