"""Communication between devices inside a program: all-gather and rings.

Code for one device is called with the names of the mesh axes it runs over.
`on_each_device` turns it into code for global arrays, by `jax.shard_map` over
the mesh in the context.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType

from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Array, AxisNames


def automatic_axes(names: Sequence[str]) -> tuple[str, ...]:
  """Selects from `names` the mesh axes that XLA shards global arrays over.

  The result is empty without a mesh in the context (`jax.set_mesh`), if each of
  the axes has one device, and inside code for one device.
  """
  shape = jax.sharding.get_abstract_mesh().shape
  return tuple(n for n in names if n in _automatic() and shape[n] > 1)


def _automatic() -> set[str]:
  mesh = jax.sharding.get_abstract_mesh()
  kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return {name for name, kind in kinds if kind == AxisType.Auto}


def dividing_axes(names: Sequence[str], length: int) -> tuple[str, ...]:
  """Those of `automatic_axes` if they divide a length together; else none."""
  axes = automatic_axes(names)
  return axes if length % num_shards(axes) == 0 else ()


def batch_axes() -> tuple[str, ...]:
  """The mesh axes over which XLA shards the examples of global arrays."""
  return automatic_axes(mesh_lib.BATCH_AXES)


def num_shards(names: Sequence[str]) -> int:
  """Number of shards of an array axis that is split over `names`."""
  shape = jax.sharding.get_abstract_mesh().shape
  return math.prod(shape[name] for name in names)


def on_each_device(
  function: Callable[..., Any], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
  """Turns a function of one device's arrays into one of global arrays.

  Args:
    function: function of shards; its collectives may name any axis of the mesh
      in the context.
    in_specs: shardings of its arguments, a tree prefix of them; over mesh axes
      that are not mentioned, each device gets the same values.
    out_specs: shardings of its results. All mesh axes over which their values
      differ must be mentioned.
  """
  # `check_vma` would reject custom gradients of replicated arguments.
  return jax.shard_map(
    function,
    in_specs=in_specs,
    out_specs=out_specs,
    axis_names=_automatic(),
    check_vma=False,
  )


def gather(x: Array, axis_name: AxisNames) -> Array:
  """Gathers all devices' [B, ...] to [n * B, ...], in order of the devices."""
  return jax.lax.all_gather(x, axis_name, tiled=True)


def scan_ring(
  visit: Callable[[Any, Any], tuple[Any, Any]],
  state: Any,
  moving: Any,
  axis_name: AxisNames | None,
) -> tuple[Any, Any]:
  """Passes each device's values around a ring of devices.

  In step i of n, a device has the values that the i-th device before it started
  with, and sends them to the next one. After the last step, all values are back
  on their own device.

  Args:
    visit: function (state, moving) -> (state, moving). If it doesn't change
      `moving`, sending and computing overlap.
    state: values that stay on their device.
    moving: values that are passed on.
    axis_name: mesh axes that form the ring; None for a single device.

  Returns:
    `state` and `moving` after all steps.
  """
  if axis_name is None:
    return visit(state, moving)
  size = jax.lax.axis_size(axis_name)
  ring = [(i, (i + 1) % size) for i in range(size)]

  def step(carry, _):
    state, moving = visit(*carry)
    return (state, jax.lax.ppermute(moving, axis_name, ring)), None

  return jax.lax.scan(step, (state, moving), length=size)[0]
