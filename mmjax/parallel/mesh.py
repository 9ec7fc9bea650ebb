"""The mesh: which devices share the batch, the weights and the sequence.

data      each group of devices sees other examples, same weights
fsdp      as `data`, and the weights are split between them too
tensor    the heads and the MLP's width are split
sequence  the tokens of one example are split
"""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

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
    ValueError: if the product of the sizes is not the number of devices.
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
        f'the {len(devices)} devices'
      )
    shape[shape.index(-1)] = len(devices) // fixed
  elif fixed != len(devices):
    raise ValueError(
      f'{asked}: the sizes multiply to {fixed}, but there are '
      f'{len(devices)} devices; make one axis -1, "what is left"'
    )
  return jax.make_mesh(
    tuple(shape),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def batch_ways(mesh: jax.sharding.Mesh) -> int:
  """Number of parts that a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Splits the leading axis, examples, over `data` and `fsdp`."""
  return jax.NamedSharding(mesh, jax.P(BATCH_AXES))


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """A whole copy on every device."""
  return jax.NamedSharding(mesh, jax.P())


def shard_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
  """Puts this host's examples [B / hosts, ...] on its devices.

  Returns:
    Global arrays [B, ...], split over the batch axes of the mesh.
  """
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
    for name, array in batch.items()
  }
