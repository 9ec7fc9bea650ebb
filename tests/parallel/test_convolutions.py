"""Convolutions equal XLA's; in loops, too, they have their fast form."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.parallel import convolutions

# Sums in another order, in float32.
ROUNDING = {'rtol': 1e-5, 'atol': 1e-5}
SAME, VALID = 'SAME', 'VALID'
CASES = {
  'plain': ((7, 5), (3, 3), (1, 1), (1, 1), SAME),
  'strides that leave pixels over': ((8, 7), (3, 2), (3, 2), (1, 1), VALID),
  'patches': ((6, 4), (2, 2), (2, 2), (1, 1), VALID),
  'one-sided padding': ((7,), (3,), (1,), (2,), [(4, 0)]),
  'more padding than kernel': ((3, 4), (2, 1), (2, 1), (1, 1), [(3, 2)] * 2),
  'dilated': ((9, 11), (3, 2), (2, 3), (2, 3), SAME),
  'two groups': ((8, 5), (3, 2), (2, 1), (1, 2), SAME, 2),
  'videos': ((3, 5, 4), (2, 3, 1), (1, 2, 2), (1, 1, 1), SAME),
}


def _gradients(convolve, inputs, kernel, **settings):
  def both(inputs, kernel):
    out, back = jax.vjp(
      lambda *args: convolve(*args, **settings), inputs, kernel
    )
    return out, back(jnp.cos(jnp.arange(out.size)).reshape(out.shape))

  return jax.jit(both)(inputs, kernel)


def _arrays(sizes, window, groups=1):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return draw(5, *sizes, 2 * groups), draw(*window, 2, 3 * groups)


def _numbers(ndim):
  space = 'DHW'[-(ndim - 2) :]
  return f'N{space}C', f'{space}IO', f'N{space}C'


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients_are_those_of_xla(name):
  sizes, window, strides, dilation, padding, *groups = CASES[name]
  inputs, kernel = _arrays(sizes, window, *groups)
  settings = {
    'window_strides': strides,
    'padding': padding,
    'rhs_dilation': dilation,
    'dimension_numbers': _numbers(inputs.ndim),
    'feature_group_count': groups[0] if groups else 1,
  }
  got = _gradients(convolutions.convolve, inputs, kernel, **settings)
  want = _gradients(jax.lax.conv_general_dilated, inputs, kernel, **settings)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), got, want
  )


@pytest.mark.parametrize(
  'changed',
  [
    {'lhs_dilation': (2, 1), 'padding': [(1, 0), (2, 1)]},
    {'dimension_numbers': ('NWHC', 'WHIO', 'NWHC')},
  ],
)
def test_what_it_leaves_to_xla_is_passed_on_whole(changed):
  inputs, kernel = _arrays((5, 5), (3, 2))
  settings = {
    'window_strides': (1, 2),
    'padding': SAME,
    'dimension_numbers': _numbers(4),
  } | changed
  got = _gradients(convolutions.convolve, inputs, kernel, **settings)
  want = _gradients(jax.lax.conv_general_dilated, inputs, kernel, **settings)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), got, want
  )


@pytest.mark.parametrize('groups', [1, 2])
def test_in_a_loop_all_convolutions_have_channels_last(groups):
  inputs, kernel = _arrays((5, 7), (3, 3), groups)

  def loss(kernel, inputs):
    out = convolutions.convolve(
      inputs,
      kernel,
      (2, 1),
      SAME,
      dimension_numbers=_numbers(4),
      feature_group_count=groups,
    )
    return jnp.sum(jnp.sin(out))

  def total(kernel, parts):
    add = lambda sums, part: (
      jax.tree.map(jnp.add, sums, jax.grad(loss, (0, 1))(kernel, part)),
      None,
    )
    zeros = jax.tree.map(jnp.zeros_like, (kernel, parts[0]))
    return jax.lax.scan(add, zeros, parts)[0]

  parts = jnp.stack([inputs, 2 * inputs])
  text = jax.jit(total).lower(kernel, parts).compile().as_text()
  forms = re.findall(r'convolution\(.*dim_labels=(\S+?),?\s', text)
  assert len(forms) == 3  # Forward and two gradients.
  assert set(forms) == {'b01f_01io->b01f'}
