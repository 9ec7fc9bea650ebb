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


def test_a_temperature_divides():
  module = dual_encoder.Scale(
    init=10.0, maximum=np.inf, learns_temperature=True
  )
  scale = lambda t: module.apply({'params': {'temperature': t}})['logit_scale']
  # 1 / t and -1 / t^2, through a logarithm.
  np.testing.assert_allclose(scale(0.005), 200.0, rtol=1e-5)
  np.testing.assert_allclose(jax.grad(scale)(0.05), -400.0, rtol=1e-5)
