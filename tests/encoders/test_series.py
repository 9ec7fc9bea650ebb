"""Encoders of time series, step by step."""

import jax.numpy as jnp
import numpy as np

from mmjax import encoders

SMALL = {'width': 8, 'depth': 0, 'num_heads': 2, 'mlp_dim': 7}
SERIES = jnp.asarray(
  np.random.default_rng(0).normal(3, 2, size=(2, 7, 3)), jnp.float32
)


def test_patches_by_hand(draw):
  mask = jnp.ones((2, 7), bool).at[1, 5:].set(False)
  module = encoders.PatchedSeries(4, stride=2, final_norm=False, **SMALL)
  variables = draw(module, SERIES, train=False)
  out = module.apply(variables, SERIES, mask, train=False)
  # Patches of steps 0-3, 2-5 and 4-7, of which 7 is padding.
  np.testing.assert_array_equal(out.mask, [[True] * 9, [True, True, False] * 3])
  params = variables['params']
  x = np.asarray(SERIES[1, :5, 2])  # The last channel of the second example.
  x = np.pad((x - x.mean()) / np.sqrt(x.var() + 1e-5), (0, 1))
  want = x[2:6] @ params['projection']['kernel'] + params['projection']['bias']
  want += params['position_embedding']['table'][1]
  # Sums in another order, in float32.
  np.testing.assert_allclose(out.values[1, 7], want, rtol=1e-4, atol=1e-5)
