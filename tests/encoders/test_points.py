"""Encoders of points: their order doesn't count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

POINTS = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 7, 5)), jnp.float32
)
MASK = jnp.ones((2, 7), bool).at[1, 4:].set(False)
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
ENCODERS = {
  'set_transformer': functools.partial(
    encoders.SetTransformer, 8, 2, 2, 7, num_inducing=3
  ),
  'pointnet': functools.partial(
    encoders.PointNet,
    (5,),
    (8,),
    input_transform=True,
    feature_transform=True,
    transform_widths=(6,),
    transform_hidden=(6,),
  ),
}


@pytest.mark.parametrize('name', ENCODERS)
def test_tokens_are_permuted_as_points_are(name, draw):
  module = ENCODERS[name]()
  variables = draw(module, POINTS, train=False)
  order = jnp.asarray([3, 6, 0, 2, 1, 5, 4])
  out = module.apply(variables, POINTS, MASK, train=False)
  other = module.apply(variables, POINTS[:, order], MASK[:, order], train=False)
  real = MASK[:, order]
  close(other.values[real], out.values[:, order][real])
  close(other.pooled, out.pooled)


def test_transforms_start_as_the_identity():
  _, state = ENCODERS['pointnet']().init_with_output(
    jax.random.key(0), POINTS, train=False, mutable=['params', 'intermediates']
  )
  for name, size in (('input_matrix', 3), ('feature_matrix', 5)):
    (matrix,) = state['intermediates'][name]['transform']
    np.testing.assert_array_equal(matrix, np.stack([np.eye(size)] * 2))


def test_a_point_has_a_position():
  with pytest.raises(ValueError, match='have 2 values each; a position alone'):
    jax.eval_shape(
      lambda: ENCODERS['pointnet']().init(
        jax.random.key(0), POINTS[:, :, :2], train=False
      )
    )
