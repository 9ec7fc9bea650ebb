"""Means, the last token and unit length, by hand and at their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops

NAN = np.nan


def test_masked_mean_by_hand():
  values = jnp.asarray([[1.0, NAN], [4.0, 7.0]])
  mask = jnp.asarray([[True, False], [True, True]])
  assert ops.masked_mean(values, mask) == 4.0
  gradient = jax.grad(ops.masked_mean)(values, mask)
  # A third each, in float32.
  np.testing.assert_allclose(gradient, [[1 / 3, 0], [1 / 3, 1 / 3]], rtol=1e-6)


def test_masked_mean_of_nothing_is_zero_with_gradient_zero():
  values, mask = jnp.asarray([NAN, np.inf, 3.0]), jnp.zeros(3, bool)
  mean, gradient = jax.value_and_grad(ops.masked_mean)(values, mask)
  assert mean == 0
  np.testing.assert_array_equal(gradient, [0, 0, 0])


def test_masked_mean_adds_up_in_float32():
  values = jnp.ones(4099, jnp.bfloat16)
  assert ops.masked_mean(values, jnp.ones(4099, bool)) == 1.0


def test_masked_mean_is_the_share_of_true_ones():
  right = jnp.asarray([True, False, True, True])
  mask = jnp.asarray([True, True, False, False])
  assert ops.masked_mean(right, mask) == 0.5


def test_mean_tokens_by_hand():
  values = jnp.asarray([[[1.0], [2.0], [NAN]], [[NAN], [NAN], [NAN]]])
  mask = jnp.asarray([[True, True, False], [False] * 3])
  np.testing.assert_array_equal(ops.mean_tokens(values, mask), [[1.5], [0]])
  gradient = jax.grad(lambda x: ops.mean_tokens(x, mask).sum())(values)
  np.testing.assert_array_equal(
    gradient[..., 0], [[0.5, 0.5, 0], [0.0, 0.0, 0.0]]
  )


@pytest.mark.parametrize(
  'mask, expected',
  [
    ([1, 1, 1, 0, 0], 2),
    ([1, 0, 0, 1, 0], 3),  # A gap.
    ([0, 0, 0, 0, 1], 4),  # Padding on the left.
    ([0, 0, 0, 0, 0], 0),  # Nothing.
  ],
)
def test_last_token(mask, expected):
  values = jnp.arange(5.0)[None, :, None]
  last = ops.last_token(values, jnp.asarray([mask], bool))
  np.testing.assert_array_equal(last, [[expected]])


def test_unit_norm_has_length_one_and_a_finite_gradient_at_zero():
  x = ops.unit_norm(jnp.asarray([[3.0, 4.0]], jnp.bfloat16))
  # Epsilon is 1e-6, relative to a length of 5.
  np.testing.assert_allclose(x, [[0.6, 0.8]], rtol=1e-6)
  assert x.dtype == jnp.float32
  gradient = jax.grad(lambda x: ops.unit_norm(x).sum())(jnp.zeros((1, 3)))
  assert np.all(np.isfinite(gradient))


def test_largest_tokens_and_where_their_gradient_goes():
  values = jnp.asarray([[[-3.0], [-1.0], [5.0], [-1.0]], [[2.0]] * 4])
  mask = jnp.asarray([[True, True, False, True], [False] * 4])
  largest = ops.max_tokens(values, mask)
  np.testing.assert_array_equal(largest, [[-1.0], [0.0]])
  gradient = jax.grad(lambda x: ops.max_tokens(x, mask).sum())(values)
  assert gradient[:, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
