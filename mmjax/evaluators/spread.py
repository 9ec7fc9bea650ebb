"""Predicts on all devices that the parameters are sharded over."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Batch, Params


def jit_over_mesh(
  predict: Callable[[Params, Batch], Any],
  make_inputs: Callable[[Batch], Batch],
) -> Callable[[Params, Batch], np.ndarray]:
  """Jits a predict function so that the batch is split over devices.

  Args:
    predict: function (params, inputs of B examples) -> array [B, ...].
    make_inputs: `Preprocessor.make_inputs` of what makes the batches.

  Returns:
    The function of a batch as the preprocessor makes it, jitted, returning a
    numpy array. On several hosts, all must call it with the same batch, and all
    get the whole result.
  """

  def predict_batch(params: Params, batch: Batch) -> Any:
    return predict(params, make_inputs(batch))

  jitted = jax.jit(predict_batch)
  on_mesh: dict[jax.sharding.Mesh, Any] = {}

  def run(params: Params, batch: Batch) -> np.ndarray:
    mesh = _mesh(params)
    if mesh is None:
      return np.asarray(jitted(params, batch))
    if mesh not in on_mesh:
      replicated = mesh_lib.replicated_sharding(mesh)
      on_mesh[mesh] = jax.jit(predict_batch, out_shardings=replicated)
    size = len(next(iter(batch.values())))
    out = on_mesh[mesh](params, mesh_lib.shard_whole_batch(batch, mesh))
    return np.asarray(out)[:size]

  return run


def _mesh(params: Params) -> jax.sharding.Mesh | None:
  """The mesh that parameters are sharded over; None for a single device."""
  leaves = jax.tree.leaves(params)
  sharding = getattr(leaves[0], 'sharding', None) if leaves else None
  if not isinstance(sharding, jax.NamedSharding) or sharding.mesh.size == 1:
    return None
  return sharding.mesh
