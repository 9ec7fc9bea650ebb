"""What devices do together inside a program: gathering, rings, parts of it.

Code for one device and code for all of them meet here. The first is called with
the names of the mesh axes it runs over; `on_each_device` makes the second out
of it, by `jax.shard_map` over the mesh in the context.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType

from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Array, AxisNames


def automatic_axes(names: Sequence[str]) -> tuple[str, ...]:
  """Those of `names` that XLA splits global arrays over, as the mesh is set.

  Empty without a mesh in the context (`jax.set_mesh`), where each of the axes
  has one device, and inside code for one device, which splits by hand.
  """
  shape = jax.sharding.get_abstract_mesh().shape
  return tuple(n for n in names if n in _automatic() and shape[n] > 1)


def _automatic() -> set[str]:
  mesh = jax.sharding.get_abstract_mesh()
  kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return {name for name, kind in kinds if kind == AxisType.Auto}


def batch_axes() -> tuple[str, ...]:
  """The axes over which XLA splits the examples of global arrays, if any."""
  return automatic_axes(mesh_lib.BATCH_AXES)


def ways(names: Sequence[str]) -> int:
  """Number of parts that the mesh in the context splits `names` into."""
  shape = jax.sharding.get_abstract_mesh().shape
  return math.prod(shape[name] for name in names)


def on_each_device(
  function: Callable[..., Any], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
  """Makes a function of one device's arrays one of global arrays.

  Args:
    function: its collectives may name any axis of the mesh in the context.
    in_specs: how its arguments are split, a tree prefix of them; over axes that
      are not mentioned, each device gets the same.
    out_specs: how its results are put together. All axes that their values
      differ over must be mentioned.
  """
  # Its check of replication rejects gradients by hand of what is not split.
  return jax.shard_map(
    function,
    in_specs=in_specs,
    out_specs=out_specs,
    axis_names=_automatic(),
    check_vma=False,
  )


def gather(x: Array, axis_name: AxisNames) -> Array:
  """All devices' rows [n * B, ...] of each one's [B, ...], in their order."""
  return jax.lax.all_gather(x, axis_name, tiled=True)


def around(
  visit: Callable[[Any, Any], tuple[Any, Any]],
  state: Any,
  moving: Any,
  axis_name: AxisNames | None,
) -> tuple[Any, Any]:
  """Lets what each device holds visit every device, one neighbour at a time.

  In step i of n, a device has what the i-th device before it started with, and
  passes it on to the next one. After the last step, everything is home again.

  Args:
    visit: (state, moving) -> (state, moving). Where it doesn't change what
      moves, passing on and computing overlap.
    state: stays on its device.
    moving: goes around.
    axis_name: of the axes that make the ring; None for a single device.

  Returns:
    The state and what moved, after all visits.
  """
  if axis_name is None:
    return visit(state, moving)
  size = jax.lax.axis_size(axis_name)
  ring = [(i, (i + 1) % size) for i in range(size)]

  def step(carry, _):
    state, moving = visit(*carry)
    return (state, jax.lax.ppermute(moving, axis_name, ring)), None

  return jax.lax.scan(step, (state, moving), length=size)[0]
