"""Predicting on all devices that the parameters lie on."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Batch, Params


def over_mesh(
  predict: Callable[[Params, Batch], Any],
) -> Callable[[Params, Batch], np.ndarray]:
  """Jits a predict function so that devices share the batch.

  Args:
    predict: (params, batch of B examples) -> array [B, ...].

  Returns:
    The same as a numpy array. On several hosts all of them call it with the
    same batch, and get the same.
  """
  jitted = jax.jit(predict)
  on_mesh: dict[jax.sharding.Mesh, Any] = {}

  def run(params: Params, batch: Batch) -> np.ndarray:
    mesh = _mesh(params)
    if mesh is None:
      return np.asarray(jitted(params, batch))
    if mesh not in on_mesh:
      whole = mesh_lib.replicated(mesh)
      on_mesh[mesh] = jax.jit(predict, out_shardings=whole)
    size = len(next(iter(batch.values())))
    out = on_mesh[mesh](params, mesh_lib.spread(batch, mesh))
    return np.asarray(out)[:size]

  return run


def _mesh(params: Params) -> jax.sharding.Mesh | None:
  """The mesh of several devices that parameters lie on, if there is one."""
  leaves = jax.tree.leaves(params)
  sharding = getattr(leaves[0], 'sharding', None) if leaves else None
  if not isinstance(sharding, jax.NamedSharding) or sharding.mesh.size == 1:
    return None
  return sharding.mesh
