"""A step that makes its examples with the model: sample, score, update."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.parallel import mesh as mesh_lib
from mmjax.training import state as state_lib
from mmjax.types import Array, Metrics, Params, RawBatch, Rollout

# Parts the keys of sampling from those of the update, which are few.
_STREAM = zlib.crc32(b'rollout') % 2**31


@dataclasses.dataclass(frozen=True)
class RolloutUpdate:
  """(state, batch of the data) -> (state, metrics), of one step.

  The compiled `sample` makes examples with the state's parameters, which stay
  on the devices; the host scores them; the compiled `update` trains on them. So
  a step is a function of the state and the data's batch, as any other, and a
  run resumes exactly.

  Attributes:
    rollout: what makes and scores examples.
    sample: compiled (params, step, seed, batch) -> batch.
    update: compiled (state, batch) -> (state, metrics).
    mesh: the devices.
  """

  rollout: Rollout
  sample: Callable[..., RawBatch]
  update: Callable[..., tuple[state_lib.State, Metrics]]
  mesh: jax.sharding.Mesh

  def __call__(
    self, state: state_lib.State, batch: RawBatch
  ) -> tuple[state_lib.State, Metrics]:
    sampled = self.sample(state.params, state.step, state.seed, batch)
    local = {
      name: mesh_lib.local_rows(sampled[name]) for name in self.rollout.reads
    }
    scored = mesh_lib.shard_batch(self.rollout.score(local), self.mesh)
    return self.update(state, {**sampled, **scored})


def compile_before(
  update: Callable[..., tuple[state_lib.State, Metrics]],
  program: Any,
  batch: RawBatch,
) -> RolloutUpdate:
  """Puts a program's rollout before its compiled update.

  Args:
    update: (state, batch of `program.find_update_batch`) -> (state, metrics).
    program: program of `mmjax.training.program`.
    batch: a global batch of the data.
  """
  traced = _trace(program.rollout, program.plan, batch, program.mesh)
  sample = traced.lower().compile()
  return RolloutUpdate(program.rollout, sample, update, program.mesh)


def find_shapes(
  rollout: Rollout,
  plan: state_lib.Plan,
  batch: RawBatch,
  mesh: jax.sharding.Mesh,
) -> RawBatch:
  """Shapes, with shardings, of the batch that is trained on.

  Args:
    rollout: what makes it.
    plan: plan of the state.
    batch: a global batch of the data, or its shapes with shardings.
    mesh: the devices.
  """
  sharding = mesh_lib.batch_sharding(mesh)
  shapes = _trace(rollout, plan, batch, mesh).out_info
  size = next(iter(shapes.values())).shape[0]
  arrays = {name: (info.shape, info.dtype) for name, info in shapes.items()}
  arrays |= dict.fromkeys(rollout.adds, ((size,), jnp.float32))
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    for name, (shape, dtype) in arrays.items()
  }


def _trace(
  rollout: Rollout,
  plan: state_lib.Plan,
  batch: RawBatch,
  mesh: jax.sharding.Mesh,
) -> jax.stages.Traced:
  def sample(
    params: Params, step: Array, seed: Array, batch: RawBatch
  ) -> RawBatch:
    key = jax.random.fold_in(jax.random.key(seed), _STREAM)
    return rollout.sample(params, batch, jax.random.fold_in(key, step))

  # As evaluators' predict functions, on arrays that the mesh shards.
  jitted = jax.jit(sample, out_shardings=mesh_lib.batch_sharding(mesh))
  state = plan.abstract
  return jitted.trace(state.params, state.step, state.seed, batch)
