"""The training program of a config: the state's shardings, and the update."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from mmjax.errors import ConfigError
from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules
from mmjax.training import (
  adapting,
  objective_contract,
  optimizer,
  references,
  rollouts,
  schedule,
  step,
)
from mmjax.training import state as state_lib
from mmjax.training.experiment import Experiment
from mmjax.training.frozen import FrozenModel
from mmjax.types import Params, RawBatch, Rollout, TaughtObjective


@dataclasses.dataclass(frozen=True)
class Program:
  """What a run computes; nothing is computed yet.

  Attributes:
    plan: shapes and shardings of the state, and how to make it.
    update: (state, batch, frozen_params) -> (state, metrics), of one device's
      examples in the `pmap` style, of global arrays in the `pjit` style.
    mesh: the devices.
    style: 'pjit', one program over arrays of all devices, which the compiler
      splits; or 'pmap', the same program on each device's rows (`shard_map`),
      with sums over the axis 'data', each weighted by its share of all items.
    frozen_params: `jax.ShapeDtypeStruct`s with shardings of the parameters of
      the frozen models, by name.
    rollout: what makes examples with the model, before each update; None if the
      data's are trained on.
  """

  plan: state_lib.Plan
  update: step.Update
  mesh: jax.sharding.Mesh
  style: str
  frozen_params: Mapping[str, Params]
  rollout: Rollout | None = None

  def find_update_batch(self, batch: RawBatch) -> RawBatch:
    """The batch of the update, as shapes if there is a rollout.

    Args:
      batch: batch, as the data makes it, or its `jax.ShapeDtypeStruct`s with
        shardings.
    """
    if self.rollout is None:
      return batch
    return rollouts.find_shapes(self.rollout, self.plan, batch, self.mesh)

  def put(self, frozen_models: Mapping[str, FrozenModel]) -> dict[str, Params]:
    """Puts the frozen models' parameters on the devices, by name."""

    def shard(leaf, place):
      return jax.make_array_from_callback(
        leaf.shape, place.sharding, lambda index: leaf[index]
      )

    return {
      name: jax.tree.map(shard, model.params, self.frozen_params[name])
      for name, model in frozen_models.items()
    }

  @contextlib.contextmanager
  def scope(self) -> Iterator[None]:
    """Around tracing: in the `pjit` style, modules find mesh and rules."""
    if self.style == 'pmap':
      yield
      return
    with jax.set_mesh(self.mesh), nn.logical_axis_rules(rules.RULES):
      yield

  def trace(self, batch: Any) -> jax.stages.Traced:
    """Traces the update over the mesh, ready to be lowered and compiled.

    Args:
      batch: a global batch of `extend`, or its `jax.ShapeDtypeStruct`s with
        shardings.
    """
    shardings = self.plan.shardings, mesh_lib.replicated_sharding(self.mesh)
    if self.style == 'pmap':
      # Of the batch's axes, `fsdp` has size 1 in this style.
      whole, split = jax.P(), jax.P(mesh_lib.BATCH_AXES)
      update = jax.shard_map(
        self.update,
        mesh=self.mesh,
        in_specs=(whole, split, whole),
        out_specs=(whole, whole),
        # It sums over devices itself.
        check_vma=False,
      )
    else:
      update = self.update
    jitted = jax.jit(update, donate_argnums=0, out_shardings=shardings)
    with self.scope():
      return jitted.trace(self.plan.abstract, batch, self.frozen_params)


def mesh_of(
  config: Any, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """The mesh of a config, checked against its batch.

  Args:
    config: a completed config.
    devices: devices of the mesh; by default all.

  Raises:
    ConfigError: if mesh, devices and batch don't fit together.
  """
  sizes = {axis: config.mesh[axis] for axis in mesh_lib.AXES}
  mesh = mesh_lib.build(sizes, devices)
  train, split = config.train, mesh_lib.num_batch_shards(mesh)
  if train.batch_size % (split * train.accumulate):
    raise ConfigError(
      f'train.batch_size={train.batch_size} is not divisible by the {split} '
      f'batch shards of the mesh times train.accumulate='
      f'{train.accumulate}; use a multiple of {split * train.accumulate}'
    )
  return mesh


def build(
  config: Any, experiment: Experiment, mesh: jax.sharding.Mesh
) -> Program:
  """Finds shapes and shardings, and makes the update; computes nothing.

  Args:
    config: a completed config.
    experiment: the experiment of the config.
    mesh: mesh of `mmjax.parallel.mesh.build`.

  Raises:
    ConfigError: if model, objectives, optimizer and mesh don't fit together.
  """
  train, frozen = config.train, experiment.frozen_models
  boxed = state_lib.shapes(experiment.model, experiment.init_batch)
  boxed, adapt = adapting.extend(config, experiment, boxed)
  params = nn.meta.unbox(boxed)
  trained = adapting.find_trained(config, params)
  tx = optimizer.build(
    config.optimizer,
    params,
    steps=train.steps,
    axes=nn.get_partition_spec(boxed),
  )
  plan = state_lib.plan(
    experiment.model,
    experiment.init_batch,
    tx,
    boxed=boxed,
    mesh=mesh,
    ema=train.ema_decay > 0,
    trained=trained,
    adapt=adapt,
  )
  _check_objectives(config, experiment)
  if experiment.rollout is not None and experiment.variants:
    varied = ', '.join(experiment.variants[0].shapes)
    raise ConfigError(
      'a task writes with the model before each step, in batches of one shape, '
      f'but {varied} have different lengths; leave out `lengths` in '
      'data.features'
    )
  update = step.make_update(
    experiment.model,
    experiment.objectives,
    tx,
    lr=schedule.build(config.optimizer, train.steps),
    trained=trained,
    frozen_models={name: model.apply for name, model in frozen.items()},
    accumulate=train.accumulate,
    ema_decay=train.ema_decay,
    axis_name='data' if config.mesh.style == 'pmap' else None,
    sources=experiment.sources,
    make_inputs=experiment.make_inputs,
  )
  frozen_params = {name: _shard(model, mesh) for name, model in frozen.items()}
  return Program(
    plan, update, mesh, config.mesh.style, frozen_params, experiment.rollout
  )


def _check_objectives(config: Any, experiment: Experiment) -> None:
  """Refuses wrong objectives, and those whose teacher the config lacks.

  Raises:
    ConfigError: naming the task, or both settings.
  """
  for name, (_, objective) in experiment.objectives.items():
    objective_contract.check(name, objective)
    is_taught = isinstance(objective, TaughtObjective)
    if is_taught and objective.teacher == 'ema' and not config.train.ema_decay:
      raise ConfigError(
        f'tasks.{name} learns from the EMA of the parameters, but '
        f'train.ema_decay={config.train.ema_decay} keeps none; set it, as in '
        f'train.ema_decay=0.99, or tasks.{name}.weight=0'
      )
    if references.needs_copy(config, objective) and (
      name not in experiment.frozen_models
    ):
      raise ConfigError(
        f'tasks.{name} compares with the model that the run starts from, but '
        'Experiment.frozen_models has no copy of it; add that of '
        'mmjax.training.references.load'
      )


def _shard(model: FrozenModel, mesh: jax.sharding.Mesh) -> Params:
  """Shapes of a frozen model's parameters, sharded by the modules' axes."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    model.params,
    rules.shardings(model.boxed, mesh),
  )
