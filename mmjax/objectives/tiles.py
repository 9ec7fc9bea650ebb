"""Contrastive losses a row, without all rows' logits in memory at once.

A row is compared with all candidates; its loss is a running sum over them. So
the candidates are taken some at a time: `tile` of those in memory, and in a
ring also one device's at a time. The backward pass computes the same logits
again (as Dao et al. 2022, section 3.1, do for attention; Zhai et al. 2023,
section 3.3, let texts go around a ring). Temporaries are [rows, tile], and what
is kept between the passes is as long as the rows or the candidates are many.
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
_NOBODY = jnp.iinfo(jnp.int32).max


class _Candidates(NamedTuple):
  """Vectors that rows are compared with.

  Attributes:
    values: [S, E].
    offered: [S], False for those that take no part.
    ids: [S] int32, their numbers among all candidates.
  """

  values: Array
  offered: Array
  ids: Array


def row_losses(
  kind: str,
  rows: Float[Array, 'B E'],
  candidates: Float[Array, 'B E'],
  scale: Float[Array, ''],
  bias: Float[Array, ''],
  offered: Bool[Array, 'B'],
  *,
  tile: int,
  ring: bool = False,
  axis_name: AxisNames | None = None,
) -> tuple[Float[Array, 'B'], Bool[Array, 'B']]:
  """The loss of each row, and whether its own candidate comes first.

  Logits are scale * rows @ candidates.T + bias, and row i's own candidate is
  candidate i. The loss of a softmax row is its cross-entropy, that of a sigmoid
  row the sum of its binary cross-entropies.

  Args:
    kind: 'softmax' or 'sigmoid'.
    rows: [B, E].
    candidates: [B, E].
    scale: the inverse temperature.
    bias: of the logits.
    offered: [B], False for candidates that take no part. The loss of a row
      whose own takes none has no meaning.
    tile: number of candidates that are compared at once; 0 for all of a
      device. Where it doesn't divide them, the last tile is filled up
      with candidates that aren't offered.
    ring: whether devices pass their candidates on to each other, instead of
      gathering all of them.
    axis_name: of the axes over which the arrays are one device's; None where
      they are global, and then split over the batch axes of the mesh in the
      context, if there is one.

  Raises:
    ConfigError: if the batch axes don't divide B.
  """
  rows, candidates = (x.astype(jnp.float32) for x in (rows, candidates))
  axes = collectives.batch_axes() if axis_name is None else ()
  whole = functools.partial(_on_one_device, kind, tile, ring)
  if not axes:
    return whole(axis_name, rows, candidates, offered, scale, bias)
  ways = collectives.ways(axes)
  if len(rows) % ways:
    raise ConfigError(
      f'a batch of {len(rows)} is not divisible by the {ways} shards that the '
      f'mesh splits it into; use a multiple of {ways}'
    )
  split, same = jax.P(axes), jax.P()
  return collectives.on_each_device(
    functools.partial(whole, axes),
    in_specs=(split, split, split, same, same),
    out_specs=split,
  )(rows, candidates, offered, scale, bias)


def _on_one_device(
  kind, tile, ring, axis_name, rows, candidates, offered, scale, bias
):
  """`row_losses` of one device's arrays, or of all if `axis_name` is None."""
  labels = jnp.arange(len(rows))
  if axis_name is not None:
    labels = labels + jax.lax.axis_index(axis_name) * len(rows)
  ids = labels
  if axis_name is not None and not ring:
    candidates = collectives.gather(candidates, axis_name)
    offered = collectives.gather(offered, axis_name)
    ids = jnp.arange(len(candidates))
  return _losses(
    _KINDS[kind],
    min(tile or len(ids), len(ids)),
    axis_name if ring else None,
    rows,
    _Candidates(candidates, offered, ids),
    scale,
    bias,
    labels,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _losses(kind, tile, ring, rows, candidates, scale, bias, labels):
  """Losses and whether a row's own comes first, [B] each.

  Args:
    kind: `_Softmax` or `_Sigmoid`.
    tile: number of candidates that are compared at once.
    ring: names of the axes that candidates go around, or None.
    rows: [B, E].
    candidates: [S, E] and what belongs to them.
    scale: [].
    bias: [].
    labels: [B] int32, which candidate is a row's own.
  """
  args = rows, candidates, scale, bias, labels
  return _forward(kind, tile, ring, *args)[0]


def _forward(kind, tile, ring, rows, candidates, scale, bias, labels):
  def compare(state, some):
    total, best = state
    logits = scale * rows @ some.values.T + bias  # [B, tile]
    offered, own = _mark_own(some, labels)
    total = kind.add(total, logits, offered, own)
    best = _update_best(best, jnp.where(offered, logits, _LOWEST), some.ids)
    return (total, best), None

  def visit(state, candidates):
    state, _ = jax.lax.scan(compare, state, _cut_tiles(candidates, tile))
    return state, candidates

  zero = jnp.zeros(len(rows))
  best = zero + _LOWEST, jnp.full(len(rows), _NOBODY)
  state = kind.start(zero), best
  (total, (_, first)), _ = collectives.around(visit, state, candidates, ring)
  losses, kept = kind.end(total)
  saved = rows, candidates, scale, bias, labels, kept
  return (losses, first == labels), saved


def _backward(kind, tile, ring, saved, wanted):
  rows, candidates, scale, bias, labels, kept = saved
  of_losses = wanted[0][:, None]

  def compare(state, some):
    mixed, total = state
    logits = scale * rows @ some.values.T + bias  # [B, tile]
    by_logit = of_losses * kind.gradient(logits, *_mark_own(some, labels), kept)
    state = mixed + by_logit @ some.values, total + by_logit.sum(axis=1)
    return state, scale * by_logit.T @ rows  # [tile, E]

  def visit(state, moving):
    candidates, gradient = moving
    state, parts = jax.lax.scan(compare, state, _cut_tiles(candidates, tile))
    parts = parts.reshape(-1, parts.shape[-1])[: len(gradient)]
    return state, (candidates, gradient + parts)

  state = jnp.zeros_like(rows), jnp.zeros(len(rows))
  moving = candidates, jnp.zeros_like(candidates.values)
  state, (_, gradient) = collectives.around(visit, state, moving, ring)
  mixed, total = state  # [B, E], [B]
  return (
    scale * mixed,
    _Candidates(gradient, None, None),
    jnp.sum(rows * mixed),
    total.sum(),
    None,
  )


_losses.defvjp(_forward, _backward)


class _Softmax:
  """Cross-entropy: log-sum-exp of the logits less the own one.

  The running sum is relative to the highest logit so far (Milakov and
  Gimelshein 2018, algorithm 3).
  """

  @staticmethod
  def start(zero):
    return zero + _LOWEST, zero, zero

  @staticmethod
  def add(state, logits, offered, own):
    highest, total, mine = state
    new = jnp.where(offered, logits, _LOWEST).max(axis=1)
    new = jnp.maximum(highest, new)
    terms = jnp.where(offered, jnp.exp(logits - new[:, None]), 0.0)
    total = total * jnp.exp(highest - new) + terms.sum(axis=1)
    return new, total, mine + jnp.where(own, logits, 0.0).sum(axis=1)

  @staticmethod
  def end(state):
    highest, total, mine = state
    whole = highest + jnp.log(total)
    return whole - mine, whole

  @staticmethod
  def gradient(logits, offered, own, whole):
    return jnp.where(offered, jnp.exp(logits - whole[:, None]) - own, 0.0)


class _Sigmoid:
  """Binary cross-entropies, where only the own candidate should be True."""

  @staticmethod
  def start(zero):
    return zero

  @staticmethod
  def add(total, logits, offered, own):
    losses = jax.nn.softplus(jnp.where(own, -logits, logits))
    return total + jnp.where(offered, losses, 0.0).sum(axis=1)

  @staticmethod
  def end(total):
    return total, None

  @staticmethod
  def gradient(logits, offered, own, kept):
    del kept
    sign = jnp.where(own, -1.0, 1.0)
    return jnp.where(offered, sign * jax.nn.sigmoid(sign * logits), 0.0)


_KINDS = {'softmax': _Softmax, 'sigmoid': _Sigmoid}


def _mark_own(some, labels):
  """Masks the candidates [1, S] that are offered and rows' own ones [B, S]."""
  offered = some.offered[None]
  return offered, offered & (some.ids[None] == labels[:, None])


def _update_best(best, logits, ids):
  """The highest logit and whose it is, of two equal ones the lower number."""
  here = logits.max(axis=1)
  who = jnp.where(logits == here[:, None], ids[None], _NOBODY).min(axis=1)
  highest, holder = best
  first = (here > highest) | ((here == highest) & (who < holder))
  return jnp.maximum(here, highest), jnp.where(first, who, holder)


def _cut_tiles(candidates, tile):
  """Cuts candidates as [number, tile, ...]; padding is not offered."""
  missing = -len(candidates.ids) % tile

  def cut(x):
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, tile, *x.shape[1:])

  return jax.tree.map(cut, candidates)
