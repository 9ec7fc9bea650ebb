"""Meshes that fit the devices, and messages for those that don't."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from mmjax.parallel import mesh


class _Device:
  """Enough of a device for sizes; nothing is placed on it."""

  platform = 'cpu'


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
  np.testing.assert_array_equal(mesh.local_rows(out['x']), batch['x'])


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


def _chips(slices, shape=(4, 2, 1), kind='TPU v5 lite'):
  """Slices of so many chips each way; hosts have squares of four."""
  columns, rows, layers = shape
  places = [
    (s, x, y, z)
    for s in range(slices)
    for z in range(layers)
    for y in range(rows)
    for x in range(columns)
  ]
  hosts = sorted({(s, z, y // 2, x // 2) for s, x, y, z in places})
  return [
    _Chip(i, s, hosts.index((s, z, y // 2, x // 2)), (x, y, z), 0, 'tpu', kind)
    for i, (s, x, y, z) in enumerate(places)
  ]


def test_slices_are_parts_of_data():
  built = mesh.build({'data': -1, 'fsdp': 2, 'tensor': 2}, _chips(2))
  assert built.devices.shape == (4, 2, 2, 1)
  slices = [{chip.slice_index for chip in row.flat} for row in built.devices]
  assert slices == [{0}, {0}, {1}, {1}]
  with pytest.raises(ValueError, match='data=1 is not divisible by the 2 sli'):
    mesh.build({'fsdp': 16}, _chips(2))


@pytest.mark.parametrize(
  'kind, shape, slices',
  [
    ('TPU v5 lite', (4, 4, 1), 2),
    ('TPU v6 lite', (4, 4, 1), 1),
    ('TPU v6 lite', (8, 8, 1), 1),
    ('TPU v6 lite', (16, 16, 1), 1),
    ('TPU v6 lite', (4, 8, 1), 2),
    ('TPU v5', (2, 2, 4), 1),
    ('TPU v5', (4, 4, 4), 1),
    ('TPU v4', (4, 4, 8), 1),
  ],
)
def test_tpus_can_be_split_into_any_powers_of_two(kind, shape, slices):
  chips = _chips(slices, shape, kind)
  number = len(chips) // slices
  for i, j in itertools.product(range(number.bit_length()), repeat=2):
    if 2 ** (i + j) <= number:
      built = mesh.build({'data': -1, 'fsdp': 2**i, 'tensor': 2**j}, chips)
      assert sorted(chip.id for chip in built.devices.flat) == list(
        range(len(chips))
      )


@pytest.mark.parametrize(
  'sizes', [{'data': -1}, {'data': 2, 'tensor': 8}, {'data': 4, 'fsdp': 4}]
)
@pytest.mark.parametrize('slices, shape', [(1, (4, 4, 1)), (2, (4, 2, 1))])
def test_hosts_read_what_their_devices_work_on(
  monkeypatch, slices, shape, sizes
):
  chips = _chips(slices, shape)
  built = mesh.build(sizes, chips)
  shards = mesh.num_batch_shards(built)
  for host in range(4):
    monkeypatch.setattr(jax, 'process_index', lambda host=host: host)
    rows = mesh.batch_rows(built, 2 * shards)
    wanted = {
      row
      for i, part in enumerate(built.devices.reshape(shards, -1))
      for row in (2 * i, 2 * i + 1)
      if host in {chip.process_index for chip in part}
    }
    assert list(rows) == sorted(wanted)


def test_neighbours_may_be_of_different_hosts(monkeypatch):
  built = mesh.build({'data': -1}, _chips(1, (4, 4, 1)))
  rows = mesh.batch_rows(built, 16)
  assert len(rows) == 4 and (np.diff(rows) > 1).any()


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
  built = mesh.build({'data': -1}, _chips(1))
  with pytest.raises(ValueError, match='size 12 is not divisible by the 8 sha'):
    mesh.batch_rows(built, 12)
