"""What a decoder keeps between steps."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array


@flax.struct.dataclass
class DecoderCache:
  """What a decoder keeps between steps; the caller holds it.

  Attributes:
    blocks: keys and values of the layers, leaves [L, B, S, G, K].
    unimodal: keys and values of the layers without a context before them, or
      None.
    mask: [B, S], True where a slot holds a real token.
    context_mask: [B, N], True where a context token is real; None without
      cross-attention.
    index: [], the next slot, the same for all examples.
    next_position: [B], position of each example's next token: its number of
      real tokens, unless `compute_hidden_states_cached` got other positions.
  """

  blocks: mnn.BlockCache
  unimodal: mnn.BlockCache | None
  mask: Array
  context_mask: Array | None
  index: Array
  next_position: Array

  def check_length(self, max_new_tokens: int) -> None:
    """Refuses to begin a text for which there are too few slots.

    The last token is not decoded, so it needs none. A traced index is not
    known; there, what is past the end is NaN.

    Args:
      max_new_tokens: most tokens to write.

    Raises:
      ConfigError: naming both numbers.
    """
    if isinstance(self.index, jax.core.Tracer):
      return
    free = self.mask.shape[1] - int(self.index)
    if max_new_tokens - 1 > free:
      raise ConfigError(
        f'max_new_tokens={max_new_tokens}, but the cache has room for {free} '
        f'tokens after the prompt; give init_cache as many slots as both have '
        'tokens'
      )

  def check_capacity(self, x: Array) -> Array:
    """Refuses new tokens that there are no slots for.

    Args:
      x: vectors [B, T, D] of the new tokens.

    Returns:
      The vectors; where the index is traced and too few slots are left, NaN.

    Raises:
      ConfigError: if there are too few slots, or the index is known, and too
        few are left.
    """
    slots, steps = self.mask.shape[1], x.shape[1]
    is_traced = isinstance(self.index, jax.core.Tracer)
    if steps <= slots and is_traced:
      return jnp.where(self.index + steps <= slots, x, jnp.nan)
    if steps > slots or self.index + steps > slots:
      taken = '' if is_traced else f', of which {self.index} are taken'
      raise ConfigError(
        f'{steps} tokens do not fit into the cache of {slots} slots{taken}; '
        'give init_cache as many slots as the prompt and all that follows have '
        'tokens'
      )
    return x

  def extend_mask(
    self, mask: Array, prefix_mask: Array | None = None
  ) -> tuple[Array, Array]:
    """Which slots hold tokens, and which of them new tokens may attend to.

    One example with S = 6 slots, of which 2 hold tokens (index = 2), and T = 3
    new tokens, the last one padding:

      self.mask     1 1 . . . .      mask   1 1 .
      filled [S]    1 1 1 1 . .      slots 2 to 4 get `mask`
      reached       1 1 1 . . .      new token t reaches slots 0 to index + t
         [T, S]     1 1 1 1 . .
                    1 1 1 1 1 .
      allowed       1 1 1 . . .      what is filled and reached; slot 4 is
         [T, S]     1 1 1 1 . .      padding, so nothing attends to it
                    1 1 1 1 . .

    With prefix_mask = 1 1 . the first new token also attends to the second one,
    so that its row is 1 1 1 1 . .

    Args:
      mask: [B, T], True where there is a new token.
      prefix_mask: [B, T], True for new tokens that attend to each other in both
        directions, or numbers as in `mmjax.nn.Visible`; None for none.

    Returns:
      [B, S] after the new tokens, and [B, T, S].
    """
    steps, slots = mask.shape[1], self.mask.shape[1]
    new = jnp.zeros_like(self.mask)
    new = new.at[:, :steps].set(mask)  # [B, S]
    filled = self.mask | jnp.roll(new, self.index, axis=1)  # [B, S]
    reached = jnp.arange(slots)[None] <= self.index + jnp.arange(steps)[:, None]
    allowed = filled[:, None] & reached[None]  # [B, T, S]
    if prefix_mask is not None:
      prefix_mask = prefix_mask * mask
      both = jnp.zeros((*mask.shape, slots), bool)
      both = both.at[:, :, :steps].set(
        ops.same_blocks(prefix_mask, prefix_mask)
      )
      allowed = allowed | jnp.roll(both, self.index, axis=2)  # [B, T, S]
    return filled, allowed

  def extend_positions(
    self, mask: Array, positions: Array | None = None
  ) -> tuple[Array, Array]:
    """Positions of new tokens, and the next position after them.

    Args:
      mask: [B, T], True where there is a new token.
      positions: [B, T] or [B, T, A], of the new tokens; None counts on from
        `next_position`, without padding.

    Returns:
      [B, T] or [B, T, A], and [B].
    """
    if positions is None:
      counted = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)  # [B, T]
      next_position = self.next_position + mask.sum(
        axis=1, dtype=jnp.int32
      )  # [B]
      return self.next_position[:, None] + counted, next_position
    last = positions.reshape(*mask.shape, -1).max(axis=2)  # [B, T]
    return positions, jnp.max(jnp.where(mask, last + 1, 0), axis=1)


def empty_cache(
  *,
  depth: int,
  unimodal_depth: int,
  batch: int,
  num_slots: int,
  num_context_tokens: int | None,
  **heads: Any,
) -> DecoderCache:
  """Makes an empty cache.

  Args:
    depth: number of blocks L.
    unimodal_depth: number of blocks without a context before them.
    batch: B.
    num_slots: S.
    num_context_tokens: N, with cross-attention; None without.
    **heads: further arguments of `mmjax.nn.empty_cache`.
  """
  empty = functools.partial(
    mnn.empty_cache, batch=batch, num_slots=num_slots, **heads
  )
  context_mask = None
  if num_context_tokens is not None:
    context_mask = jnp.zeros((batch, num_context_tokens), bool)
  return DecoderCache(
    blocks=empty(depth=depth, num_context_tokens=num_context_tokens),
    unimodal=empty(depth=unimodal_depth) if unimodal_depth else None,
    mask=jnp.zeros((batch, num_slots), bool),
    context_mask=context_mask,
    index=jnp.zeros((), jnp.int32),
    next_position=jnp.zeros((batch,), jnp.int32),
  )


def check_slots(num_slots: int, max_length: int) -> None:
  """Refuses a cache in which the positions of a table would run out.

  A loop also decodes the last token that it writes, though nothing uses the
  result: one slot more than there are positions is legal.

  Args:
    num_slots: S.
    max_length: number of positions.

  Raises:
    ConfigError: naming both numbers.
  """
  if num_slots > max_length + 1:
    raise ConfigError(
      f'a cache of {num_slots} slots is for more tokens than the max_length '
      f'{max_length} of the decoder, which has no positions for them; ask for '
      f'{max_length} slots, or raise max_length'
    )


def number_tokens(mask: Array) -> Array:
  """Positions [B, S] of tokens in a text, that of padding being anything."""
  return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)


def take_rows(cache: DecoderCache, rows: Array) -> DecoderCache:
  """Picks rows of the batch: axis 1 of the blocks, axis 0 of the rest."""
  mask, context_mask, next_position = jax.tree.map(
    lambda leaf: leaf[rows],
    (cache.mask, cache.context_mask, cache.next_position),
  )
  return cache.replace(
    blocks=jax.tree.map(lambda leaf: leaf[:, rows], cache.blocks),
    unimodal=jax.tree.map(lambda leaf: leaf[:, rows], cache.unimodal),
    mask=mask,
    context_mask=context_mask,
    next_position=next_position,
  )
