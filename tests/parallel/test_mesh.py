"""Meshes that fit the devices, and messages for those that don't."""

import dataclasses

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


@dataclasses.dataclass(frozen=True)
class _Chip:
  """As much of a TPU chip as laying out a mesh asks for."""

  id: int
  slice_index: int
  process_index: int
  coords: tuple[int, int, int]
  core_on_chip: int = 0
  platform: str = 'tpu'
  device_kind: str = 'TPU v5 lite'


def _chips(slices):
  """Slices of 2x4 chips, four of them a host."""
  return [
    _Chip(8 * s + 4 * y + x, s, 2 * s + y, (x, y, 0))
    for s in range(slices)
    for y in range(2)
    for x in range(4)
  ]


def test_slices_are_parts_of_data():
  built = mesh.build({'data': -1, 'fsdp': 2, 'tensor': 2}, _chips(2))
  assert built.devices.shape == (4, 2, 2, 1)
  slices = [{chip.slice_index for chip in row.flat} for row in built.devices]
  assert slices == [{0}, {0}, {1}, {1}]
  with pytest.raises(ValueError, match='data=1 is not divisible by the 2 sli'):
    mesh.build({'fsdp': 16}, _chips(2))


@pytest.mark.parametrize(
  'sizes, shares',
  [
    # Four hosts of four chips, each with examples of its own.
    ({'data': 16}, {0: (4, 0), 1: (4, 1), 2: (4, 2), 3: (4, 3)}),
    # Two hosts work on the same examples, and read the same.
    ({'data': 2, 'tensor': 8}, {0: (2, 0), 1: (2, 0), 2: (2, 1), 3: (2, 1)}),
  ],
)
def test_hosts_read_what_their_devices_work_on(monkeypatch, sizes, shares):
  built = mesh.build(sizes, _chips(2))
  for host, share in shares.items():
    monkeypatch.setattr(jax, 'process_index', lambda host=host: host)
    assert mesh.batch_share(built) == share
