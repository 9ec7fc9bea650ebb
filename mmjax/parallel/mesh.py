"""The mesh: which devices share the batch, the weights and the sequence.

data      each group of devices sees other examples, same weights
fsdp      as `data`, and the weights are split between them too
tensor    the heads and the MLP's width are split
sequence  the tokens of one example are split

On several TPU slices the slices are parts of `data`, since between them the
network is slow; everything else lies inside a slice.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils

from mmjax.errors import ConfigError
from mmjax.types import Batch

AXES = ('data', 'fsdp', 'tensor', 'sequence')
BATCH_AXES = ('data', 'fsdp')


def build(
  sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Lays the devices out as a grid of the four axes.

  Args:
    sizes: the size of each axis of `AXES`, 1 where it is missing; -1 means
      what the other axes leave.
    devices: those to use, all by default.

  Raises:
    ConfigError: if the product of the sizes is not the number of devices, or
      several slices don't divide `data`.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape = [sizes.get(axis, 1) for axis in AXES]
  asked = ', '.join(
    f'mesh.{axis}={size}' for axis, size in zip(AXES, shape, strict=True)
  )
  if shape.count(-1) > 1:
    raise ConfigError(f'{asked}: only one axis may be -1, "what is left"')
  fixed = math.prod(size for size in shape if size != -1)
  if -1 in shape:
    if len(devices) % fixed:
      raise ConfigError(
        f'{asked}: the fixed sizes multiply to {fixed}, which does not divide '
        f'the {len(devices)} devices; use sizes whose product does'
      )
    shape[shape.index(-1)] = len(devices) // fixed
  elif fixed != len(devices):
    raise ConfigError(
      f'{asked}: the sizes multiply to {fixed}, but there are '
      f'{len(devices)} devices; make one axis -1, "what is left"'
    )
  slices = {getattr(device, 'slice_index', 0) for device in devices}
  number = len(slices) if devices[0].platform == 'tpu' else 1
  if shape[0] % number:
    raise ConfigError(
      f'{asked}: mesh.data={shape[0]} is not divisible by the {number} '
      'slices, between which only data may be split'
    )
  grid = _grid(shape, number, devices)
  kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
  return jax.sharding.Mesh(grid, AXES, axis_types=kinds)


def _grid(shape: Sequence[int], slices: int, devices: Sequence[jax.Device]):
  """Devices in the order in which neighbours are near each other.

  `jax.make_mesh` would let an axis lie across a part of a torus's side on some
  kinds of TPU only, and refuse most meshes on others.
  """
  if slices == 1:
    return mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  return mesh_utils.create_hybrid_device_mesh(
    (shape[0] // slices, *shape[1:]),
    (slices, 1, 1, 1),
    devices,
    allow_split_physical_axes=True,
  )


def batch_ways(mesh: jax.sharding.Mesh) -> int:
  """Number of parts that a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_rows(mesh: jax.sharding.Mesh, batch_size: int) -> np.ndarray:
  """Which examples of every global batch this host reads: its devices'.

  Devices that are near each other are neighbours in the mesh, whatever host
  they belong to, so these need not follow one another. Hosts whose devices
  work on the same examples (those of one `tensor` or `sequence` group) read the
  same.

  Args:
    mesh: the devices, of all hosts.
    batch_size: B, of the global batch.

  Returns:
    Numbers in 0..B - 1, rising.

  Raises:
    ConfigError: if the mesh doesn't divide the batch.
  """
  ways = batch_ways(mesh)
  if batch_size % ways:
    raise ConfigError(
      f'batch size {batch_size} is not divisible by the {ways} parts into '
      f'which the mesh {dict(mesh.shape)} splits it; use a multiple of {ways}'
    )
  rows = np.arange(batch_size).reshape(ways, -1)
  return rows[_own_parts(mesh)].ravel()


def _own_parts(mesh: jax.sharding.Mesh) -> list[int]:
  """Numbers of the parts of a batch that this host's devices work on."""
  own = jax.process_index()
  parts = mesh.devices.reshape(batch_ways(mesh), -1)
  return [
    i
    for i, devices in enumerate(parts)
    if any(device.process_index == own for device in devices)
  ]


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Splits the leading axis, examples, over `data` and `fsdp`."""
  return jax.NamedSharding(mesh, jax.P(BATCH_AXES))


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """A whole copy on every device."""
  return jax.NamedSharding(mesh, jax.P())


def spread(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
  """Splits a batch that every host has whole.

  Args:
    batch: arrays [B, ...], the same on all hosts.
    mesh: the devices.

  Returns:
    Global arrays, filled up with zeros to a B that the mesh divides.
  """
  sharding, ways = batch_sharding(mesh), batch_ways(mesh)

  def one(array):
    array = np.asarray(array)
    missing = -len(array) % ways
    filled = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
    return jax.make_array_from_callback(
      filled.shape, sharding, lambda index: filled[index]
    )

  return {name: one(array) for name, array in batch.items()}


def shard_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
  """Puts this host's examples on its devices.

  Args:
    batch: arrays of the examples that `batch_rows` names, in that order.
    mesh: the devices.

  Returns:
    Global arrays [B, ...], split over the batch axes of the mesh.
  """
  sharding, own = batch_sharding(mesh), _own_parts(mesh)

  def one(array):
    array = np.asarray(array)
    size = len(array) // len(own)
    places = {i * size: at * size for at, i in enumerate(own)}

    def part(index):
      start = places[index[0].start or 0]
      return array[start : start + size]

    shape = (size * batch_ways(mesh), *array.shape[1:])
    return jax.make_array_from_callback(shape, sharding, part)

  return {name: one(array) for name, array in batch.items()}
