"""Recurrent encoders read in order, both ways."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

IDS = jnp.asarray([[1, 5, 2, 0, 0]])
MASK = jnp.asarray([[1, 1, 1, 0, 0]], bool)


@pytest.fixture(scope='module', params=['gru', 'lstm'])
def read(request, draw):
  """ids -> states by token."""
  module = encoders.Recurrent(11, 4, cell=request.param, bidirectional=True)
  variables = draw(module, IDS, MASK, train=False)
  merge = variables['params']['merge_0']
  # The merged state is the forward one plus ten times the backward one.
  merge['kernel'] = jnp.concatenate([jnp.eye(4), 10 * jnp.eye(4)])
  merge['bias'] = jnp.zeros(4)

  @functools.partial(jax.jit, static_argnums=2)
  def states(ids, mask, backward):
    own = variables['params'] | {
      'merge_0': {
        'kernel': merge['kernel']
        .at[:4]
        .multiply(not backward)
        .at[4:]
        .multiply(backward),
        'bias': merge['bias'],
      }
    }
    return module.apply({'params': own}, ids, mask, train=False).values[0]

  return states


def test_forward_states_know_the_past_alone(read):
  states = read(IDS, MASK, False)
  changed = read(IDS.at[0, 1].set(7), MASK, False)
  np.testing.assert_array_equal(states[0], changed[0])
  assert not np.allclose(states[1:3], changed[1:3])


def test_backward_states_know_the_future_but_no_padding(read):
  states = read(IDS, MASK, True)
  changed = read(IDS.at[0, 1].set(7), MASK, True)
  np.testing.assert_array_equal(states[2], changed[2])
  assert not np.allclose(states[:2], changed[:2])
  padded = read(IDS.at[0, 3:].set(9), MASK, True)
  np.testing.assert_array_equal(states[:3], padded[:3])
  short = read(IDS[:, :3], MASK[:, :3], True)
  # Products of other shapes, in float32.
  np.testing.assert_allclose(states[:3], short, rtol=1e-5, atol=1e-6)


def test_steps_in_a_gap_are_skipped(draw):
  module = encoders.RecurrentSeries(4, 2, bidirectional=True)
  series = jnp.asarray(
    np.random.default_rng(0).normal(size=(1, 5, 3)), jnp.float32
  )
  variables = draw(module, series, train=False)
  kept = jnp.asarray([0, 2, 4])
  mask = jnp.zeros((1, 5), bool).at[:, kept].set(True)
  gap = module.apply(variables, series, mask, train=False)
  short = module.apply(variables, series[:, kept], train=False)
  # Products of other shapes, in float32.
  np.testing.assert_allclose(
    gap.values[:, kept], short.values, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(gap.pooled, short.pooled, rtol=1e-5, atol=1e-6)
