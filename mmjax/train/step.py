"""One update of the state: forward, losses, gradients, optimizer, average."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mmjax.train import state as state_lib
from mmjax.types import Array, Batch, Metrics, Objective, Params

Update = Callable[[state_lib.State, Batch], tuple[state_lib.State, Metrics]]


def make_update(
  model: nn.Module,
  objectives: Mapping[str, tuple[float, Objective]],
  tx: optax.GradientTransformation,
  *,
  lr: optax.Schedule,
  trained: Any,
  accumulate: int = 1,
  ema_decay: float = 0.0,
) -> Update:
  """Makes the pure function `update(state, batch) -> (state, metrics)`.

  Args:
    model: outputs = model.apply({'params': p}, batch, train=True, rngs=...).
    objectives: name -> (weight, objective).
    tx: the optimizer.
    lr: its schedule, to report the rate.
    trained: tree of bool, False where a parameter is frozen.
    accumulate: number of micro-batches that a batch is split into. Losses are
      means over the whole batch all the same; only what compares examples
      with each other (a contrastive loss) sees one micro-batch at a time.
    ema_decay: of the average of the parameters; 0 is off. The average starts
      with the smaller decay (1 + t) / (10 + t), so that a short run isn't
      ruled by its initial values.

  Returns:
    A function to be jitted with the state donated. Metrics: `loss`,
    `loss/NAME`, `count/NAME` (what the loss is a mean over), `NAME/METRIC`,
    `grad_norm` (before clipping, of what is trained), `param_norm`, `lr`,
    and, where the data counts records that couldn't be read, `replaced`.
  """

  gradient = jax.grad(_losses(model, objectives), has_aux=True)

  def update(state: state_lib.State, batch: Batch):
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    micro = _split(batch, accumulate)
    counts = {
      name: jax.vmap(objective.count)(micro).astype(jnp.float32)
      for name, (_, objective) in objectives.items()
    }
    shares = {
      name: count / jnp.maximum(count.sum(), 1e-9)
      for name, count in counts.items()
    }
    # A count of zero in all of the batch: share 0, loss 0, gradient 0.
    parts = micro, shares, jax.random.split(key, accumulate)
    grads, metrics = _sum(partial(gradient, state.params), parts, accumulate)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics |= {f'count/{name}': c.sum() for name, c in counts.items()}
    metrics['grad_norm'] = optax.tree.norm(_only(grads, trained))
    metrics['param_norm'] = optax.tree.norm(params)
    metrics['lr'] = lr(state.step)
    if 'replaced' in batch:
      metrics['replaced'] = batch['replaced'].sum()
    return state.replace(
      step=state.step + 1,
      params=params,
      opt_state=opt_state,
      ema=_average(state, params, ema_decay),
    ), metrics

  return update


def _losses(
  model: nn.Module, objectives: Mapping[str, tuple[float, Objective]]
) -> Callable[..., tuple[Array, Metrics]]:
  """The function of one micro-batch that is differentiated."""

  def losses(params: Params, batch: Batch, shares: Metrics, key: Array):
    """This micro-batch's part of the whole loss, and of every metric."""
    drop_key, own_key = jax.random.split(key)
    apply = partial(model.apply, {'params': params})
    outputs = apply(batch, train=True, rngs={'dropout': drop_key})
    total, metrics = jnp.zeros(()), {}
    for i, (name, (weight, objective)) in enumerate(objectives.items()):
      loss, extra = objective(
        outputs, batch, apply=apply, rng=jax.random.fold_in(own_key, i)
      )
      share = shares[name]
      total += weight * share * loss
      metrics[f'loss/{name}'] = share * loss
      metrics |= {f'{name}/{key}': share * v for key, v in extra.items()}
    metrics['loss'] = total
    return total, metrics

  return losses


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


def _split(batch: Batch, parts: int) -> Batch:
  """[B, ...] -> [parts, B / parts, ...]; micro-batch i has examples i::parts.

  In strides, so that an example stays on the device that holds it.
  """
  return {
    name: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)
    for name, x in batch.items()
  }


def _only(tree: Any, kept: Any) -> list[Array]:
  """The leaves where `kept` is True; gradients of others are not computed."""
  return [
    leaf
    for leaf, keep in zip(
      jax.tree.leaves(tree), jax.tree.leaves(kept), strict=True
    )
    if keep
  ]


def _average(
  state: state_lib.State, params: Params, decay: float
) -> Params | None:
  if state.ema is None:
    return None
  # t + 1 updates after this one; Polyak averaging with a warm-up.
  t = (state.step + 1).astype(jnp.float32)
  decay = jnp.minimum(decay, (1 + t) / (10 + t))
  return jax.tree.map(
    lambda old, new: decay * old + (1 - decay) * new, state.ema, params
  )
