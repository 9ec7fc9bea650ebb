"""Contrastive losses per row that never hold all logits in memory.

The loss of a row is a running sum over all candidates. So the candidates are
processed in tiles, and in a ring also one device's at a time. The backward pass
computes the same logits again (as Dao et al. 2022, section 3.1, do for
attention; Zhai et al. 2023, section 3.3, pass texts around a ring). Temporaries
are [rows, tile]; what is saved between the passes has the length of the rows or
of the candidates.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError
from mmjax.parallel import collectives
from mmjax.types import AxisNames

_LOWEST = jnp.finfo(jnp.float32).min
_NO_ID = jnp.iinfo(jnp.int32).max


class _Candidates(NamedTuple):
  """Candidates that rows are compared with.

  Attributes:
    values: vectors [S, E].
    is_candidate: bool [S], False for masked candidates.
    ids: int32 [S], indices among all candidates.
  """

  values: Array
  is_candidate: Array
  ids: Array


def row_losses(
  kind: str,
  rows: Float[Array, 'B E'],
  candidates: Float[Array, 'B E'],
  scale: Float[Array, ''],
  bias: Float[Array, ''],
  is_candidate: Bool[Array, 'B'],
  *,
  tile: int,
  ring: bool = False,
  axis_name: AxisNames | None = None,
) -> tuple[Float[Array, 'B'], Bool[Array, 'B']]:
  """The loss of each row, and whether its own candidate scores highest.

  Logits are scale * rows @ candidates.T + bias, and row i's own candidate is
  candidate i. The loss of a row is the cross-entropy for a softmax, and the sum
  of binary cross-entropies for a sigmoid.

  Args:
    kind: 'softmax' or 'sigmoid'.
    rows: vectors [B, E].
    candidates: vectors [B, E].
    scale: inverse temperature.
    bias: bias of the logits.
    is_candidate: [B], False for masked candidates. The loss of a row whose own
      candidate is masked has no meaning.
    tile: number of candidates that are processed together; 0 for all of a
      device. If it doesn't divide them, the last tile is padded with masked
      candidates.
    ring: whether devices pass their candidates around a ring instead of
      gathering all of them.
    axis_name: mapped axes if the arrays are one device's; None if they are
      global. Global arrays are split over the batch axes of the mesh in the
      context, if there is one.

  Raises:
    ConfigError: if the batch axes don't divide B.
  """
  rows, candidates = (x.astype(jnp.float32) for x in (rows, candidates))
  axes = collectives.batch_axes() if axis_name is None else ()
  compute = functools.partial(_on_one_device, kind, tile, ring)
  if not axes:
    return compute(axis_name, rows, candidates, is_candidate, scale, bias)
  shards = collectives.num_shards(axes)
  if len(rows) % shards:
    raise ConfigError(
      f'a batch of {len(rows)} is not divisible by the {shards} shards of the '
      f'mesh; use a multiple of {shards}'
    )
  split, replicated = jax.P(axes), jax.P()
  return collectives.on_each_device(
    functools.partial(compute, axes),
    in_specs=(split, split, split, replicated, replicated),
    out_specs=split,
  )(rows, candidates, is_candidate, scale, bias)


def _on_one_device(
  kind, tile, ring, axis_name, rows, candidates, is_candidate, scale, bias
):
  """`row_losses` of one device's arrays, or of all if `axis_name` is None."""
  labels = jnp.arange(len(rows))
  if axis_name is not None:
    labels = labels + jax.lax.axis_index(axis_name) * len(rows)
  ids = labels
  if axis_name is not None and not ring:
    candidates = collectives.gather(candidates, axis_name)
    is_candidate = collectives.gather(is_candidate, axis_name)
    ids = jnp.arange(len(candidates))
  return _losses(
    _KINDS[kind],
    min(tile or len(ids), len(ids)),
    axis_name if ring else None,
    rows,
    _Candidates(candidates, is_candidate, ids),
    scale,
    bias,
    labels,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _losses(kind, tile, ring, rows, candidates, scale, bias, labels):
  """Losses, and whether a row's own candidate scores highest, [B] each.

  Args:
    kind: `_Softmax` or `_Sigmoid`.
    tile: number of candidates that are processed together.
    ring: mesh axes of the ring, or None.
    rows: vectors [B, E].
    candidates: candidates of this device.
    scale: inverse temperature [].
    bias: bias of the logits [].
    labels: int32 [B], ids of the rows' own candidates.
  """
  args = rows, candidates, scale, bias, labels
  return _forward(kind, tile, ring, *args)[0]


def _forward(kind, tile, ring, rows, candidates, scale, bias, labels):
  def add_tile(state, some):
    total, best = state
    logits = scale * rows @ some.values.T + bias  # [B, tile]
    is_candidate, positive = _masks(some, labels)
    total = kind.add(total, logits, is_candidate, positive)
    best = _update_best(
      best, jnp.where(is_candidate, logits, _LOWEST), some.ids
    )
    return (total, best), None

  def visit(state, candidates):
    state, _ = jax.lax.scan(add_tile, state, _split_tiles(candidates, tile))
    return state, candidates

  zero = jnp.zeros(len(rows))
  best = zero + _LOWEST, jnp.full(len(rows), _NO_ID)
  state = kind.start(zero), best
  (total, (_, first)), _ = collectives.scan_ring(visit, state, candidates, ring)
  losses, log_total = kind.end(total)
  saved = rows, candidates, scale, bias, labels, log_total
  return (losses, first == labels), saved


def _backward(kind, tile, ring, saved, grads):
  rows, candidates, scale, bias, labels, log_total = saved
  loss_grad = grads[0][:, None]

  def add_tile(state, some):
    mixed, bias_grad = state
    logits = scale * rows @ some.values.T + bias  # [B, tile]
    masks = _masks(some, labels)
    logit_grad = loss_grad * kind.logit_grad(logits, *masks, log_total)
    mixed = mixed + logit_grad @ some.values
    bias_grad = bias_grad + logit_grad.sum(axis=1)
    return (mixed, bias_grad), scale * logit_grad.T @ rows  # [tile, E]

  def visit(state, moving):
    candidates, gradient = moving
    state, parts = jax.lax.scan(add_tile, state, _split_tiles(candidates, tile))
    parts = parts.reshape(-1, parts.shape[-1])[: len(gradient)]
    return state, (candidates, gradient + parts)

  state = jnp.zeros_like(rows), jnp.zeros(len(rows))
  moving = candidates, jnp.zeros_like(candidates.values)
  state, (_, gradient) = collectives.scan_ring(visit, state, moving, ring)
  mixed, bias_grad = state  # [B, E], [B]
  return (
    scale * mixed,
    _Candidates(gradient, None, None),
    jnp.sum(rows * mixed),
    bias_grad.sum(),
    None,
  )


_losses.defvjp(_forward, _backward)


class _Softmax:
  """Cross-entropy: log-sum-exp of the logits minus the own logit.

  The running sum is relative to the highest logit so far (Milakov and
  Gimelshein 2018, algorithm 3).
  """

  @staticmethod
  def start(zero):
    return zero + _LOWEST, zero, zero

  @staticmethod
  def add(state, logits, is_candidate, positive):
    highest, total, own_logit = state
    new = jnp.where(is_candidate, logits, _LOWEST).max(axis=1)
    new = jnp.maximum(highest, new)
    terms = jnp.where(is_candidate, jnp.exp(logits - new[:, None]), 0.0)
    total = total * jnp.exp(highest - new) + terms.sum(axis=1)
    return new, total, own_logit + jnp.where(positive, logits, 0.0).sum(axis=1)

  @staticmethod
  def end(state):
    highest, total, own_logit = state
    log_total = highest + jnp.log(total)
    return log_total - own_logit, log_total

  @staticmethod
  def logit_grad(logits, is_candidate, positive, log_total):
    probabilities = jnp.exp(logits - log_total[:, None])
    return jnp.where(is_candidate, probabilities - positive, 0.0)


class _Sigmoid:
  """Binary cross-entropies, with the own candidate as the only positive."""

  @staticmethod
  def start(zero):
    return zero

  @staticmethod
  def add(total, logits, is_candidate, positive):
    losses = jax.nn.softplus(jnp.where(positive, -logits, logits))
    return total + jnp.where(is_candidate, losses, 0.0).sum(axis=1)

  @staticmethod
  def end(total):
    return total, None

  @staticmethod
  def logit_grad(logits, is_candidate, positive, log_total):
    del log_total
    sign = jnp.where(positive, -1.0, 1.0)
    return jnp.where(is_candidate, sign * jax.nn.sigmoid(sign * logits), 0.0)


_KINDS = {'softmax': _Softmax, 'sigmoid': _Sigmoid}


def _masks(some, labels):
  """Masks of candidates [1, S] and of rows' own candidates [B, S]."""
  is_candidate = some.is_candidate[None]
  return is_candidate, is_candidate & (some.ids[None] == labels[:, None])


def _update_best(best, logits, ids):
  """The highest logit and its id; of equal logits, the lowest id."""
  new = logits.max(axis=1)
  new_id = jnp.where(logits == new[:, None], ids[None], _NO_ID).min(axis=1)
  highest, best_id = best
  is_better = (new > highest) | ((new == highest) & (new_id < best_id))
  return jnp.maximum(new, highest), jnp.where(is_better, new_id, best_id)


def _split_tiles(candidates, tile):
  """Splits into [number, tile, ...]; the last tile is padded and masked."""
  missing = -len(candidates.ids) % tile

  def cut(x):
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, tile, *x.shape[1:])

  return jax.tree.map(cut, candidates)
