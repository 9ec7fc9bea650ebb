"""One update of the state: forward, losses, gradients, optimizer, EMA."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mmjax.models import predict
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.training import by_source, objective_contract
from mmjax.training import state as state_lib
from mmjax.types import (
  Array,
  Batch,
  Metrics,
  Objective,
  Outputs,
  Params,
  RawBatch,
  ScheduledObjective,
  TaughtObjective,
)

# (state, batch, perhaps parameters of frozen models by name) -> ...
Update = Callable[..., tuple[state_lib.State, Metrics]]
ApplyTeacher = Callable[[Batch], Outputs]


def make_update(
  model: nn.Module,
  objectives: Mapping[str, tuple[float, Objective]],
  tx: optax.GradientTransformation,
  *,
  lr: optax.Schedule,
  trained: Any,
  frozen_models: Mapping[str, Callable[[Params, Batch], Outputs]] | None = None,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  axis_name: str | None = None,
  sources: Sequence[str] = (),
  make_inputs: Callable[[RawBatch], Batch] = dict,
) -> Update:
  """Makes the pure function `update(state, batch, frozen_params)`.

  Args:
    model: outputs = model.apply({'params': p}, batch, train=True, rngs=...).
    objectives: name -> (weight, objective).
    tx: the optimizer of the trained parameters.
    lr: learning rate schedule, for the metrics.
    trained: tree of bool, False where a parameter is frozen: it gets no
      gradient, no optimizer state, and stays as it is.
    frozen_models: functions of frozen models, teachers and references, by the
      name of the objective that learns from one; `update` gets their parameters
      by the same names. Frozen parts of `model` itself are in `trained`.
    accumulate: number of micro-batches of a batch. The losses are those of the
      whole batch. For an objective that compares examples with each other, the
      model first runs over all micro-batches for what is compared, then once
      more for the gradients (cached gradients, Gao et al. 2021, section 3).
    ema_decay: decay of the EMA of the parameters, 0 for none; at first smaller,
      (1 + t) / (10 + t) at update t, so that initial values don't dominate a
      short run.
    axis_name: mapped axis over whose devices the batch is split: `update` gets
      one device's examples and a whole state. None where arrays are global.
    sources: names of the sources of a mixture, by the batch's `source_index`.
    make_inputs: function from a batch as the data makes it, or a part of it, to
      the batch that model and objectives read.

  Returns:
    A function to be jitted with the state donated. Metrics: `loss`,
    `loss/NAME`, `count/NAME` (items that the loss is a mean over),
    `NAME/METRIC`, `grad_norm` (before clipping) and `param_norm`, both of the
    trained parameters, `lr`; `replaced`, the number of records that can't be
    read; of each source of a mixture `loss/NAME/SOURCE`, `count/NAME/SOURCE`
    and `examples/SOURCE`.
  """

  def update(
    state: state_lib.State, batch: RawBatch, frozen_params: Params | None = None
  ):
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    teachers = _find_teachers(
      model, state, frozen_models or {}, frozen_params or {}
    )
    gradients = _Gradients(
      model,
      objectives,
      trained,
      accumulate,
      axis_name,
      teachers,
      state.step,
      make_inputs,
      sources,
    )
    grads, metrics = gradients(state.params, batch, key)
    moves = metrics.pop('moves', {})
    trained_params = tree_paths.select(state.params, trained)
    updates, opt_state = tx.update(grads, state.opt_state, trained_params)
    trained_params = optax.apply_updates(trained_params, updates)
    trained_params = _move(trained_params, moves)
    metrics['grad_norm'] = optax.tree.norm(grads)
    metrics['param_norm'] = optax.tree.norm(trained_params)
    # optax counts its steps in `opt_state`, which is saved too.
    metrics['lr'] = lr(state.step)
    return state.replace(
      step=state.step + 1,
      params=tree_paths.overlay(state.params, trained_params),
      opt_state=opt_state,
      ema=_update_ema(state, trained_params, ema_decay),
    ), metrics

  return update


def _move(params: Params, moves: Mapping[str, Array]) -> Params:
  """Adds what objectives add to trained parameters beside gradients."""
  return jax.tree.map(
    lambda path, x: x + moves[path] if path in moves else x,
    tree_paths.names(params),
    params,
  )


def _find_teachers(
  model: nn.Module,
  state: state_lib.State,
  frozen_models: Mapping[str, Callable[[Params, Batch], Outputs]],
  params: Mapping[str, Params],
) -> dict[str, ApplyTeacher]:
  """Frozen models by name; 'ema', and 'initial', the model without adapters."""
  teachers = {n: partial(frozen_models[n], params[n]) for n in params}
  if state.ema is not None:
    ema = state.eval_params
    teachers['ema'] = partial(model.apply, {'params': ema}, train=False)
  initial, added = adapters.split(state.params)
  if added:
    teachers['initial'] = partial(predict.apply_factored, model, initial)
  return teachers


@dataclasses.dataclass(frozen=True)
class _Gradients:
  """Gradients of the weighted losses of a batch, and their metrics."""

  model: nn.Module
  objectives: Mapping[str, tuple[float, Objective]]
  trained: Any
  accumulate: int
  axis_name: str | None
  teachers: Mapping[str, ApplyTeacher]
  step: Array
  make_inputs: Callable[[RawBatch], Batch]
  sources: Sequence[str] = ()

  def __call__(
    self, params: Params, batch: RawBatch, key: Array
  ) -> tuple[Params, Metrics]:
    micro = split_micro_batches(batch, self.accumulate)
    # Inputs are made of each micro-batch by itself: they may be larger.
    counts = {
      name: jax.vmap(partial(self._count, name, objective))(micro)
      for name, (_, objective) in self.objectives.items()
    }
    totals = {
      name: self._sum_over_devices(c.sum()) for name, c in counts.items()
    }
    # By objective [accumulate]: count of the micro-batch / count of the global
    # batch. Means over micro-batches times these sum to the mean over the
    # global batch. Without any item, loss and gradient are 0.
    fractions = {
      name: count / jnp.maximum(totals[name], 1e-9)
      for name, count in counts.items()
    }
    if self.axis_name is not None:
      key = jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))
    keys = jax.random.split(key, self.accumulate)
    output_grads, metrics = {}, {}
    if self.accumulate > 1 and self._comparing_objectives():
      output_grads, metrics = self._differentiate_compared(
        params, batch, micro, keys, fractions
      )

    def loss_of_part(trained_params, *part):
      return self._micro_losses(
        tree_paths.overlay(params, trained_params), *part
      )

    trained_params = tree_paths.select(params, self.trained)
    grads, found = _sum(
      partial(jax.grad(loss_of_part, has_aux=True), trained_params),
      (micro, fractions, keys, output_grads),
      self.accumulate,
    )
    found['loss'] += metrics.pop('loss', 0.0)
    grads, metrics = self._sum_over_devices((grads, found | metrics))
    metrics |= {f'count/{name}': total for name, total in totals.items()}
    metrics = by_source.take_means(metrics, self.sources)
    if self.sources:
      metrics |= self._sum_over_devices(
        by_source.count_examples(batch['source_index'], self.sources)
      )
    if 'replaced' in batch:
      metrics['replaced'] = self._sum_over_devices(batch['replaced'].sum())
    return grads, metrics

  def _count(self, name: str, objective: Objective, part: RawBatch) -> Array:
    count = jnp.asarray(objective.count(self.make_inputs(part)), jnp.float32)
    objective_contract.check_count(name, objective, count.shape)
    return count

  def _sum_over_devices(self, tree: Any) -> Any:
    """Sums over the devices, of which each holds a part."""
    if self.axis_name is None:
      return tree
    return jax.lax.psum(tree, self.axis_name)

  def _comparing_objectives(self) -> list[str]:
    """Names of the objectives that need the whole batch at once."""
    return [n for n, (_, o) in self.objectives.items() if o.compared_outputs]

  def _differentiate_compared(
    self,
    params: Params,
    batch: RawBatch,
    micro: RawBatch,
    keys: Array,
    fractions: dict[str, Array],
  ) -> tuple[dict[str, Array], Metrics]:
    """Losses that compare examples, and their gradients by what they compare.

    This is the first of the two passes of cached gradients (GradCache).

    Returns:
      By name of output, the gradient by each micro-batch's part of it [parts,
      ...], and the metrics.
    """
    names = self._comparing_objectives()
    comparing = [self.objectives[name][1] for name in names]
    compared = {n for o in comparing for n in o.compared_outputs}

    def run(part):
      outputs = self._run(params, *part)
      for name, objective in zip(names, comparing, strict=True):
        objective_contract.check_compared(name, objective, outputs)
      return {n: value for n, value in outputs.items() if n in compared}

    # With the keys of the second pass, so that dropout is the same.
    parts = jax.lax.map(run, (micro, keys))
    # Scalars, such as the logit scale, are the same in all micro-batches.
    whole = {n: join(x) if x.ndim > 1 else x[0] for n, x in parts.items()}
    of_batch = {name: fractions[name].sum() for name in names}

    def loss_of_compared(outputs):
      return self._weigh_losses(
        names, params, outputs, batch, of_batch, keys[0]
      )

    grads, metrics = jax.grad(loss_of_compared, has_aux=True)(whole)
    return {
      n: split_micro_batches({n: x}, self.accumulate)[n]
      if x.ndim
      else jnp.broadcast_to(x / self.accumulate, (self.accumulate,))
      for n, x in grads.items()
    }, metrics

  def _micro_losses(
    self,
    params: Params,
    batch: RawBatch,
    fractions: dict[str, Array],
    key: Array,
    output_grads: dict[str, Array],
  ) -> tuple[Array, Metrics]:
    """This micro-batch's part of the whole loss, and of every metric.

    With `output_grads`, the value is not a loss, but has the right gradient:
    objectives that compare examples are left out, and each output that they
    compare is multiplied by their gradient of `_differentiate_compared`.
    """
    outputs = self._run(params, batch, key)
    names = [
      name
      for name, (_, objective) in self.objectives.items()
      if not (output_grads and objective.compared_outputs)
    ]
    total, metrics = self._weigh_losses(
      names, params, outputs, batch, fractions, key
    )
    for name, gradient in output_grads.items():
      total += jnp.vdot(gradient, outputs[name])
    return total, metrics

  def _run(self, params: Params, batch: RawBatch, key: Array) -> Outputs:
    drop_key, _ = jax.random.split(key)
    return self.model.apply(
      {'params': params},
      self.make_inputs(batch),
      train=True,
      rngs={'dropout': drop_key},
    )

  def _weigh_losses(self, names, params, outputs, batch, fractions, key):
    """Weighted sum of some objectives' losses, times their fractions."""
    apply = partial(self.model.apply, {'params': params})
    inputs = self.make_inputs(batch)
    _, own_key = jax.random.split(key)
    total, metrics = jnp.zeros(()), {}
    for i, (name, (weight, objective)) in enumerate(self.objectives.items()):
      if name not in names:
        continue
      objective_contract.check_compared(name, objective, outputs)
      result = objective(
        outputs,
        inputs,
        apply=apply,
        rng=jax.random.fold_in(own_key, i),
        axis_name=self.axis_name,
        **self._find_more(name, objective),
      )
      loss, extra = objective_contract.check_result(name, objective, result)
      extra = dict(extra)
      items = extra.pop('items', None)
      moves = extra.pop('moves', {})
      if self.sources:
        metrics |= by_source.add_items(
          items, batch['source_index'], name, len(self.sources)
        )
      fraction = fractions[name]
      if moves:
        total_moves = metrics.setdefault('moves', {})
        for path, x in moves.items():
          total_moves[path] = total_moves.get(path, 0.0) + fraction * x
      total += weight * fraction * loss
      metrics[f'loss/{name}'] = fraction * loss
      metrics |= {f'{name}/{n}': fraction * v for n, v in extra.items()}
    metrics['loss'] = total
    return total, metrics

  def _find_more(self, name: str, objective: Objective) -> dict[str, Any]:
    """The further arguments of an objective with a teacher, or a schedule."""
    is_scheduled = isinstance(objective, ScheduledObjective)
    more: dict[str, Any] = {'step': self.step} if is_scheduled else {}
    if isinstance(objective, TaughtObjective):
      key = name if name in self.teachers else objective.teacher
      more['apply_teacher'] = self.teachers[key]
    return more


def _sum(function: Callable[..., Any], parts: Any, number: int) -> Any:
  """Sum of function(*part) over the leading axis of `parts`, one at a time."""
  first = jax.tree.map(lambda x: x[0], parts)
  if number == 1:
    return function(*first)
  zeros = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(function, *first),
  )
  add = lambda total, part: (
    jax.tree.map(jnp.add, total, function(*part)),
    None,
  )
  return jax.lax.scan(add, zeros, parts)[0]


def split_micro_batches(batch: RawBatch, parts: int) -> RawBatch:
  """[B, ...] -> [parts, B / parts, ...]; micro-batch i has examples i::parts.

  In strides, so that an example stays on the device that holds it.
  """
  return {
    name: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)
    for name, x in batch.items()
  }


def join(parts: Array) -> Array:
  """The inverse for one array: [parts, b, ...] -> [parts * b, ...]."""
  joined = jnp.swapaxes(parts, 0, 1)
  return joined.reshape(-1, *parts.shape[2:])


def _update_ema(
  state: state_lib.State, params: Params, decay: float
) -> Params | None:
  """The EMA with the new values of the trained parameters."""
  if state.ema is None:
    return None
  # t updates with this one; Polyak averaging with a warm-up.
  t = (state.step + 1).astype(jnp.float32)
  decay = jnp.minimum(decay, (1 + t) / (10 + t))
  return jax.tree.map(
    lambda old, new: decay * old + (1 - decay) * new, state.ema, params
  )
