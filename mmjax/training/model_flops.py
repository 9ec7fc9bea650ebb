"""FLOPs that a step must have, apart from those that it repeats."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mmjax import types
from mmjax.ops import tree_paths
from mmjax.parallel import attention_forms
from mmjax.training import adapting, flops, step
from mmjax.training import state as state_lib
from mmjax.training.experiment import Experiment


def count(
  config: Any, experiment: Experiment, params: Any, batch: Any
) -> float:
  """FLOPs of a plain step: forward and backward, each product once.

  Those of the same model and losses on the whole batch at once, on one device,
  with every activation kept: nothing is rematerialised, taken in tiles or in a
  ring, and nothing computed twice for cached gradients. So the number depends
  on what is learnt and not on how a step is made to fit. The optimizer's own
  products (Muon has some) are left out, as they are in what papers call model
  FLOPs; so are gradients of frozen parameters. A module that rematerialises by
  itself, without a field `remat`, is counted as it is.

  Args:
    config: a complete one.
    experiment: what its `build` gave.
    params: parameters, or their `jax.ShapeDtypeStruct`s.
    batch: a global batch, or its `jax.ShapeDtypeStruct`s.
  """
  trained = adapting.find_trained(config, params)
  chosen = tree_paths.select(jax.tree.map(_shape, params), trained)
  tx = optax.identity()
  update = step.make_update(
    _without_recompute(experiment.model),
    {
      name: (weight, _without_recompute(objective))
      for name, (weight, objective) in experiment.objectives.items()
    },
    tx,
    lr=lambda _: jnp.zeros(()),
    trained=trained,
    frozen_models={
      n: model.apply for n, model in experiment.frozen_models.items()
    },
    make_inputs=experiment.make_inputs,
  )
  given = {n: model.params for n, model in experiment.frozen_models.items()}
  params, batch, given = jax.tree.map(_shape, (params, batch, given))
  state = state_lib.State(
    step=jax.ShapeDtypeStruct((), jnp.int32),
    seed=jax.ShapeDtypeStruct((), jnp.uint32),
    params=params,
    opt_state=tx.init(chosen),
    ema=chosen if config.train.ema_decay else None,
  )
  with attention_forms.only_plain():
    return flops.count(jax.jit(update).trace(state, batch, given).jaxpr)


def _without_recompute(part: Any) -> Any:
  """A copy of a module or objective that computes nothing twice."""
  if isinstance(part, Mapping):
    return {name: _without_recompute(value) for name, value in part.items()}
  if isinstance(part, tuple | list):
    return tuple(_without_recompute(value) for value in part)
  if not dataclasses.is_dataclass(part) or isinstance(part, type):
    return part
  changed = {}
  for name, setting in types.list_field_info(type(part)).items():
    if name in ('parent', 'name'):
      continue
    old = getattr(part, name)
    new = (
      _without_recompute(old)
      if setting.without_recompute is None
      else setting.without_recompute
    )
    if new is not old:
      changed[name] = new
  if isinstance(part, nn.Module):
    return part.clone(**changed)
  return dataclasses.replace(part, **changed)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
  dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
  return jax.ShapeDtypeStruct(leaf.shape, dtype)
