"""Everything that a run carries from one step to the next."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.errors import ConfigError
from mmjax.models import contracts
from mmjax.ops import tree_paths
from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules
from mmjax.types import Array, Batch, Params


@flax.struct.dataclass
class State:
  """A pytree; the next step is a function of it and of the batch alone.

  Attributes:
    step: [] int32, updates done; also the number of the next batch.
    seed: [] uint32, with `step` what dropout and objectives draw from. The
      order of the data and augmentation follow from `config.seed` and `step`.
    params: parameters.
    opt_state: the optimizer's state, for the trained parameters.
    ema: EMA of the trained parameters, or None.
  """

  step: Array
  seed: Array
  params: Params
  opt_state: Any
  ema: Params | None

  @property
  def eval_params(self) -> Params:
    """The parameters to evaluate: the EMA if there is one."""
    if self.ema is None:
      return self.params
    return tree_paths.overlay(self.params, self.ema)


@dataclasses.dataclass(frozen=True)
class Plan:
  """Shapes and shardings of a state, and how to make it.

  Attributes:
    init: seed [] uint32 -> State; run it under `jax.jit` with
      `out_shardings=plan.shardings`, so that no device ever holds it whole.
    abstract: State of `jax.ShapeDtypeStruct` with shardings.
    shardings: State of shardings.
  """

  init: Callable[[Array], State]
  abstract: State
  shardings: State


def shapes(model: nn.Module, batch: Batch) -> Params:
  """The model's parameters as boxed shapes; computes nothing.

  Raises:
    ConfigError: if the model has other collections than parameters, or is not
      called, or does not return, as `mmjax.models.contracts` says.
  """
  with contracts.checking(model):
    variables = jax.eval_shape(
      lambda key: model.init(key, _as_arrays(batch), train=False),
      jax.random.key(0),
    )
  extra = sorted(set(variables) - {'params'})
  if extra:
    raise ConfigError(
      f'the model has variable collections {extra} besides params, which the '
      'loop does not carry; use layers without running statistics'
    )
  return variables['params']


def plan(
  model: nn.Module,
  batch: Batch,
  tx: optax.GradientTransformation,
  *,
  boxed: Params,
  mesh: jax.sharding.Mesh,
  ema: bool,
  trained: Any = None,
  adapt: Callable[[Array, Params], Params] | None = None,
) -> Plan:
  """Finds shapes and shardings of the state from the modules' axis names.

  Args:
    model: model, as for `shapes`.
    batch: one or two examples.
    tx: the optimizer.
    boxed: boxed parameters of `shapes(model, batch)`, or of what `adapt` makes
      of it.
    mesh: the devices that hold the state.
    ema: whether to keep an EMA of the parameters.
    trained: tree of bool, False where a parameter is frozen; None if none is.
    adapt: function from a key and the model's initial parameters to those of
      the state; None for the same.
  """

  def init(seed: Array) -> State:
    params = _init_params(model, batch, adapt, jax.random.key(seed))
    chosen = _choose(params, trained)
    return State(
      step=jnp.zeros((), jnp.int32),
      seed=seed,
      params=params,
      opt_state=tx.init(chosen),
      # A buffer of its own: the update donates params and ema separately.
      ema=jax.tree.map(jnp.copy, chosen) if ema else None,
    )

  abstract = jax.eval_shape(init, np.uint32(0))
  of_params = rules.shardings(boxed, mesh)
  whole = mesh_lib.replicated_sharding(mesh)
  shardings = State(
    step=whole,
    seed=whole,
    params=of_params,
    opt_state=_like_params(
      abstract.opt_state, abstract.params, of_params, whole
    ),
    ema=_choose(of_params, trained) if ema else None,
  )
  abstract = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    abstract,
    shardings,
  )
  return Plan(init, abstract, shardings)


def _init_params(
  model: nn.Module,
  batch: Batch,
  adapt: Callable[[Array, Params], Params] | None,
  key: Array,
) -> Params:
  """Initial parameters; arguments as of `plan`."""
  variables = model.init(key, _as_arrays(batch), train=False)
  params = nn.meta.unbox(variables['params'])
  if adapt is None:
    return params
  return adapt(jax.random.fold_in(key, 1), params)


def _choose(tree: Params, trained: Any) -> Params:
  """The leaves of trained parameters; all if `trained` is None."""
  return tree if trained is None else tree_paths.select(tree, trained)


def with_params(state: State, values: Mapping[str, Array]) -> State:
  """An initial state with some of its parameters replaced.

  Args:
    state: state of `Plan.init`; its optimizer state stays as it is.
    values: parameters by path, 'image/blocks/...'.
  """

  def replace(path, leaf):
    name = tree_paths.join(path)
    return values.get(name, leaf)

  params = jax.tree_util.tree_map_with_path(replace, state.params)
  ema = state.ema
  if ema is not None:
    ema = jax.tree.map(jnp.copy, tree_paths.select_like(params, ema))
  return state.replace(params=params, ema=ema)


def _as_arrays(batch: Batch) -> Batch:
  return {name: jnp.asarray(value) for name, value in batch.items()}


def _like_params(
  opt_state: Any, params: Any, shardings: Any, replicated: Any
) -> Any:
  """Shards moments as their parameters, and replicates everything else.

  A leaf belongs to a parameter if its path ends in the parameter's and it has
  the same shape, whatever the optimizer wraps around it.
  """
  known = {
    path: (leaf.shape, sharding)
    for (path, leaf), sharding in zip(
      jax.tree_util.tree_leaves_with_path(params),
      jax.tree.leaves(shardings),
      strict=True,
    )
  }

  def find(path, leaf):
    for start in range(len(path)):
      shape, sharding = known.get(path[start:], (None, None))
      if shape == leaf.shape:
        return sharding
    return replicated

  return jax.tree_util.tree_map_with_path(find, opt_state)
