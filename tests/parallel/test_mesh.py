"""Meshes that fit the devices, and messages for those that don't."""

import jax
import numpy as np
import pytest

from mmjax.parallel import mesh


class _Device:
  """Enough of a device for sizes; nothing is placed on it."""


def test_minus_one_is_what_is_left():
  built = mesh.build({'data': -1, 'tensor': 1})
  assert built.axis_names == ('data', 'fsdp', 'tensor', 'sequence')
  assert built.devices.shape == (len(jax.devices()), 1, 1, 1)
  assert set(built.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
  'sizes, message',
  [
    ({'data': 3}, 'multiply to 3, but there are 8 devices'),
    ({'data': -1, 'tensor': 3}, 'multiply to 3, which does not divide the 8'),
    ({'data': -1, 'fsdp': -1}, 'only one axis'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    mesh.build(sizes, devices=[_Device() for _ in range(8)])


def test_a_batch_keeps_its_values():
  built = mesh.build({'data': -1})
  batch = {'x': np.arange(6, dtype=np.float32).reshape(2, 3)}
  out = mesh.shard_batch(batch, built)
  np.testing.assert_array_equal(out['x'], batch['x'])
  assert out['x'].sharding.spec == jax.P(('data', 'fsdp'))
