"""The mesh: how devices split the batch, the weights and the sequence.

data      splits the batch; weights are replicated
fsdp      splits the batch and the weights
tensor    splits the heads and the MLP's width
sequence  splits the tokens of each example

On several TPU slices, only `data` is split between slices, since the network
between them is slow.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils

from mmjax.errors import ConfigError
from mmjax.types import RawBatch

AXES = ('data', 'fsdp', 'tensor', 'sequence')
BATCH_AXES = ('data', 'fsdp')


def build(
  sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Builds the mesh of devices with the four axes.

  Args:
    sizes: size of each axis of `AXES`, 1 if it is missing; -1 for all devices
      that the other axes leave.
    devices: devices to use; all by default.

  Raises:
    ConfigError: if the product of the sizes is not the number of devices, or
      several slices don't divide `data`.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape = [sizes.get(axis, 1) for axis in AXES]
  wanted = ', '.join(
    f'mesh.{axis}={size}' for axis, size in zip(AXES, shape, strict=True)
  )
  if shape.count(-1) > 1:
    raise ConfigError(f'{wanted}: only one axis may be -1, "what is left"')
  fixed = math.prod(size for size in shape if size != -1)
  if -1 in shape:
    if len(devices) % fixed:
      raise ConfigError(
        f'{wanted}: the fixed sizes multiply to {fixed}, which does not divide '
        f'the {len(devices)} devices; use sizes whose product does'
      )
    shape[shape.index(-1)] = len(devices) // fixed
  elif fixed != len(devices):
    is_cpu = devices[0].platform == 'cpu'
    there = f'are {len(devices)} devices' if len(devices) > 1 else 'is 1 device'
    raise ConfigError(
      f'{wanted}: the sizes multiply to {fixed}, but there {there}; make one '
      'axis -1, "what is left"'
      + (f', or set JAX_NUM_CPU_DEVICES={fixed}' if is_cpu else '')
    )
  slices = {getattr(device, 'slice_index', 0) for device in devices}
  number = len(slices) if devices[0].platform == 'tpu' else 1
  if shape[0] % number:
    raise ConfigError(
      f'{wanted}: mesh.data={shape[0]} is not divisible by the {number} '
      'slices, between which only data may be split'
    )
  grid = _grid(shape, number, devices)
  kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
  return jax.sharding.Mesh(grid, AXES, axis_types=kinds)


def _grid(shape: Sequence[int], slices: int, devices: Sequence[jax.Device]):
  """Orders devices so that neighbours in the mesh are near each other.

  `jax.make_mesh` allows an axis to use a part of a torus's side only on some
  kinds of TPU, and refuses most meshes on others.
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


def num_batch_shards(mesh: jax.sharding.Mesh) -> int:
  """Number of shards that a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_rows(mesh: jax.sharding.Mesh, batch_size: int) -> np.ndarray:
  """Indices of the examples of every global batch that this host reads.

  These are the examples of its devices. They need not be contiguous, since
  neighbours in the mesh may belong to different hosts. Hosts whose devices work
  on the same examples (those of one `tensor` or `sequence` group) read the
  same.

  Args:
    mesh: devices of all hosts.
    batch_size: size of the global batch, B.

  Returns:
    Indices in 0..B - 1, ascending.

  Raises:
    ConfigError: if the mesh doesn't divide the batch.
  """
  shards = num_batch_shards(mesh)
  if batch_size % shards:
    raise ConfigError(
      f'batch size {batch_size} is not divisible by the {shards} shards of the '
      f'mesh {dict(mesh.shape)}; use a multiple of {shards}'
    )
  rows = np.arange(batch_size).reshape(shards, -1)
  return rows[_local_shards(mesh)].ravel()


def _local_shards(mesh: jax.sharding.Mesh) -> list[int]:
  """Indices of the shards of a batch that this host's devices work on."""
  host = jax.process_index()
  shards = mesh.devices.reshape(num_batch_shards(mesh), -1)
  return [
    i
    for i, devices in enumerate(shards)
    if any(device.process_index == host for device in devices)
  ]


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The sharding of a batch: its examples are split over `data` and `fsdp`."""
  return jax.NamedSharding(mesh, jax.P(BATCH_AXES))


def replicated_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The sharding with a whole copy on every device."""
  return jax.NamedSharding(mesh, jax.P())


def shard_whole_batch(batch: RawBatch, mesh: jax.sharding.Mesh) -> RawBatch:
  """Shards a batch that every host has as a whole.

  Args:
    batch: arrays [B, ...], the same on all hosts.
    mesh: devices to shard it over.

  Returns:
    Global arrays, padded with zeros to a B that the mesh divides.
  """
  sharding, shards = batch_sharding(mesh), num_batch_shards(mesh)

  def shard(array):
    array = np.asarray(array)
    missing = -len(array) % shards
    padded = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
    return jax.make_array_from_callback(
      padded.shape, sharding, lambda index: padded[index]
    )

  return {name: shard(array) for name, array in batch.items()}


def shard_batch(batch: RawBatch, mesh: jax.sharding.Mesh) -> RawBatch:
  """Puts this host's examples on its devices.

  Args:
    batch: arrays of the examples that `batch_rows` lists, in that order.
    mesh: devices of all hosts.

  Returns:
    Global arrays [B, ...], split over the batch axes of the mesh.
  """
  sharding, local = batch_sharding(mesh), _local_shards(mesh)

  def shard(array):
    array = np.asarray(array)
    size = len(array) // len(local)
    # First row in the global batch -> first row in `array`.
    starts = {i * size: at * size for at, i in enumerate(local)}

    def rows(index):
      start = starts[index[0].start or 0]
      return array[start : start + size]

    shape = (size * num_batch_shards(mesh), *array.shape[1:])
    return jax.make_array_from_callback(shape, sharding, rows)

  return {name: shard(array) for name, array in batch.items()}


def local_rows(array: jax.Array) -> np.ndarray:
  """This host's examples of a global array [B, ...], in their order.

  Those that `shard_batch` puts there.
  """
  shards = {
    shard.index[0].start or 0: shard.data for shard in array.addressable_shards
  }
  return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def platform() -> str:
  """The platform that a program is compiled for: 'cpu', 'gpu' or 'tpu'.

  That of the mesh in the context (`jax.set_mesh`), else the default one.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform
