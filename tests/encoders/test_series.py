"""Encoders of time series, step by step."""

import jax
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


def test_dilations_double(draw):
  module = encoders.TemporalConvNet(16, 2, kernel_size=2)
  series = jnp.tile(SERIES[:1], (1, 2, 1))  # [1, 14, 3]
  variables = draw(module, series, train=False)

  def last(series):
    return module.apply(variables, series, train=False).pooled.sum()

  reached = np.any(np.asarray(jax.grad(last)(series))[0], axis=1)
  # Itself, 2 convolutions 1 step back, and 2 convolutions 2 steps back.
  assert reached.tolist() == [False] * 7 + [True] * 7


def test_a_causal_convolution_by_hand(draw):
  conv = encoders.temporal_convnet.CausalConv(2, 2, 3, jnp.float32)
  variables = draw(conv, SERIES)
  params = jax.tree.map(np.asarray, variables['params'])
  kernel = params['kernel'] * params['scale']
  kernel /= np.sqrt(np.sum(params['kernel'] ** 2, axis=(0, 1)))
  x = np.asarray(SERIES)
  want = x[:, 5] @ kernel[1] + x[:, 2] @ kernel[0] + params['bias']
  got = conv.apply(variables, SERIES)
  np.testing.assert_allclose(got[:, 5], want, rtol=1e-4, atol=1e-5)
