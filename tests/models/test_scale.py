"""The learned temperature."""

import jax
import numpy as np

from mmjax.models import dual_encoder


def test_scale_is_clipped_but_comes_back():
  module = dual_encoder.Scale(init=10.0, maximum=20.0)
  scale = lambda log: module.apply({'params': {'log_scale': log}})[
    'logit_scale'
  ]
  # exp and its derivative within the bound, by hand; exp and log round, hence
  # the tolerance of a few float32 steps.
  np.testing.assert_allclose(scale(np.log(10.0)), 10.0, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(scale)(np.log(10.0)), 10.0, rtol=1e-6)
  # Beyond it the value stays, and a gradient still pulls the parameter back.
  np.testing.assert_allclose(scale(np.log(50.0)), 20.0, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(scale)(np.log(50.0)), 20.0, rtol=1e-6)
