"""Step tables equal to those of diffusers' schedulers."""

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmjax import ops

STEPS = 13
BETAS = {
  'linear': {'beta_schedule': 'linear', 'beta_start': 1e-4, 'beta_end': 0.02},
  'scaled_linear': {
    'beta_schedule': 'scaled_linear',
    'beta_start': 8.5e-4,
    'beta_end': 0.012,
  },
  'cosine': {'beta_schedule': 'squaredcos_cap_v2'},
}
every_schedule = pytest.mark.parametrize('schedule', BETAS)


def make_table(schedule, spacing):
  noise = ops.NoiseSchedule(schedule, 'epsilon')
  return ops.make_step_table(noise, STEPS, spacing)


@every_schedule
@pytest.mark.parametrize('spacing', ('leading', 'trailing', 'linspace'))
@pytest.mark.parametrize('name', ('DDPMScheduler', 'DDIMScheduler'))
def test_times_and_levels_of_ddpm_and_ddim(schedule, spacing, name):
  theirs = getattr(diffusers, name)(**BETAS[schedule], timestep_spacing=spacing)
  theirs.set_timesteps(STEPS)
  table = make_table(schedule, spacing)
  times = theirs.timesteps.numpy()
  np.testing.assert_array_equal(np.round(table.times * 1000), times)
  # Their products of 1000 factors are in float32.
  np.testing.assert_allclose(
    table.alphas[:-1] ** 2, theirs.alphas_cumprod[times], rtol=1e-4, atol=1e-9
  )


@every_schedule
@pytest.mark.parametrize(
  'name', ('EulerDiscreteScheduler', 'HeunDiscreteScheduler')
)
def test_sigmas_of_euler_and_heun(schedule, name):
  # Their linspace keeps fractions of times, which a table here has not.
  theirs = getattr(diffusers, name)(
    **BETAS[schedule], timestep_spacing='trailing'
  )
  theirs.set_timesteps(STEPS)
  table = make_table(schedule, 'trailing')
  sigmas = theirs.sigmas.numpy()
  if name.startswith('Heun'):  # It repeats those that it visits twice.
    sigmas = np.append(sigmas[:-1:2], 0.0)
  np.testing.assert_allclose(table.sigmas / table.alphas, sigmas, rtol=2e-4)


@every_schedule
def test_steps_of_dpm_solver(schedule):
  """Whole steps: from the same predictions, the same samples."""
  theirs = diffusers.DPMSolverMultistepScheduler(
    **BETAS[schedule], timestep_spacing='trailing'
  )
  theirs.set_timesteps(STEPS)
  table = make_table(schedule, 'trailing')
  np.testing.assert_array_equal(
    np.round(table.times * 1000), theirs.timesteps.numpy()
  )
  start = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
  noisy = torch.tensor(start)
  for time in theirs.timesteps:
    noisy = theirs.step(torch.tanh(noisy), time, noisy).prev_sample
  got = ops.sample(
    lambda x, t: jnp.tanh(x),
    jnp.asarray(start),
    ops.NoiseSchedule(schedule, 'epsilon'),
    steps=STEPS,
    sampler='dpm++',
  )
  np.testing.assert_allclose(got, noisy.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('shift', (1.0, 3.0))
def test_sigmas_of_flow_matching(shift):
  theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
  even = 1 - np.arange(STEPS) / STEPS
  theirs.set_timesteps(sigmas=even)
  table = ops.make_step_table(ops.NoiseSchedule(shift=shift), STEPS)
  np.testing.assert_allclose(table.sigmas, theirs.sigmas.numpy(), rtol=1e-6)
  np.testing.assert_allclose(
    table.times * 1000, theirs.timesteps.numpy(), rtol=1e-6
  )


@pytest.mark.parametrize('shift', (1.0, 3.0))
def test_steps_of_flow_matching(shift):
  """As a pipeline of Stable Diffusion 3 asks: whole steps, and their table."""
  theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
  theirs.set_timesteps(STEPS)
  noise = ops.NoiseSchedule(shift=shift)
  table = ops.make_step_table(noise, STEPS, 'linspace')
  np.testing.assert_allclose(table.sigmas, theirs.sigmas.numpy(), rtol=1e-5)
  np.testing.assert_allclose(
    table.times * 1000, theirs.timesteps.numpy(), rtol=1e-5
  )
  start = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
  noisy = torch.tensor(start)
  for time in theirs.timesteps:
    predicted = torch.tanh(noisy) + time / 1000
    noisy = theirs.step(predicted, time, noisy).prev_sample
  got = ops.sample(
    lambda x, t: jnp.tanh(x) + t,
    jnp.asarray(start),
    noise,
    steps=STEPS,
    sampler='euler',
    spacing='linspace',
  )
  np.testing.assert_allclose(got, noisy.numpy(), rtol=1e-4, atol=1e-5)
