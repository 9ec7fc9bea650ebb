"""Predicting on the devices that parameters lie on."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.evaluators import spread


def test_on_one_device_nothing_is_filled_up():
  predict = spread.jit_over_mesh(
    lambda params, batch: batch['x'] * params['w'], dict
  )
  got = predict({'w': jnp.float32(2)}, {'x': np.ones((3, 2), np.float32)})
  np.testing.assert_array_equal(got, np.full((3, 2), 2))


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')
