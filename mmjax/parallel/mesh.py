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
    ValueError: if the product of the sizes is not the number of devices, or
      several slices don't divide `data`.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape = [sizes.get(axis, 1) for axis in AXES]
  asked = ', '.join(
    f'mesh.{axis}={size}' for axis, size in zip(AXES, shape, strict=True)
  )
  if shape.count(-1) > 1:
    raise ValueError(f'{asked}: only one axis may be -1, "what is left"')
  fixed = math.prod(size for size in shape if size != -1)
  if -1 in shape:
    if len(devices) % fixed:
      raise ValueError(
        f'{asked}: the fixed sizes multiply to {fixed}, which does not divide '
        f'the {len(devices)} devices; use sizes whose product does'
      )
    shape[shape.index(-1)] = len(devices) // fixed
  elif fixed != len(devices):
    raise ValueError(
      f'{asked}: the sizes multiply to {fixed}, but there are '
      f'{len(devices)} devices; make one axis -1, "what is left"'
    )
  kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
  slices = {getattr(device, 'slice_index', 0) for device in devices}
  if devices[0].platform != 'tpu' or len(slices) == 1:
    return jax.make_mesh(tuple(shape), AXES, axis_types=kinds, devices=devices)
  if shape[0] % len(slices):
    raise ValueError(
      f'{asked}: mesh.data={shape[0]} is not divisible by the {len(slices)} '
      'slices, between which only data may be split'
    )
  grid = mesh_utils.create_hybrid_device_mesh(
    (shape[0] // len(slices), *shape[1:]), (len(slices), 1, 1, 1), devices
  )
  return jax.sharding.Mesh(grid, AXES, axis_types=kinds)


def batch_ways(mesh: jax.sharding.Mesh) -> int:
  """Number of parts that a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_share(mesh: jax.sharding.Mesh) -> tuple[int, int]:
  """Which part of every global batch this host reads.

  Hosts whose devices work on the same examples (those of one `tensor` or
  `sequence` group) read the same part.

  Returns:
    The number of parts, and which of them is this host's.

  Raises:
    ValueError: if the parts of two hosts overlap without being equal.
  """
  rows = mesh.devices.reshape(batch_ways(mesh), -1)
  of_host: dict[int, set[int]] = {}
  for i, row in enumerate(rows):
    for device in row:
      of_host.setdefault(device.process_index, set()).add(i)
  parts = sorted({tuple(sorted(own)) for own in of_host.values()})
  if sum(map(len, parts)) != len(rows) or len(set(map(len, parts))) != 1:
    raise ValueError(
      f'the mesh {dict(mesh.shape)} splits the batch into {len(rows)} rows '
      f'that the {len(of_host)} hosts share unevenly: {parts}; use sizes of '
      'tensor and sequence that divide the devices of a host, or are multiples '
      'of them'
    )
  return len(parts), parts.index(tuple(sorted(of_host[jax.process_index()])))


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
  """Puts this host's examples [B / parts, ...] on its devices.

  Args:
    batch: what `batch_share` says is this host's.
    mesh: the devices.

  Returns:
    Global arrays [B, ...], split over the batch axes of the mesh.
  """
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
    for name, array in batch.items()
  }
