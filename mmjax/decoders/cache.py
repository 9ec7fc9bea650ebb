"""What a decoder remembers between steps."""

import flax.struct
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array


@flax.struct.dataclass
class DecoderCache:
  """What a decoder remembers between steps; the caller holds it.

  Attributes:
    blocks: keys and values of the layers, leaves [L, B, S, G, K].
    unimodal: the same of the layers before them that see no context, or None.
    mask: [B, S], True where a slot holds a real token.
    context_mask: [B, N], True where a context token is real; None without
      cross-attention.
    index: [], the next slot, the same for all examples.
    length: [B], each example's next position: how many real tokens it has,
      unless its positions were given.
  """

  blocks: mnn.BlockCache
  unimodal: mnn.BlockCache | None
  mask: Array
  context_mask: Array | None
  index: Array
  length: Array

  def visible(
    self, mask: Array, prefix: Array | None = None
  ) -> tuple[Array, Array]:
    """Which slots hold tokens, and which of them new tokens may see.

    Args:
      mask: [B, T], True where there is a new token.
      prefix: see `TextDecoder.step`.

    Returns:
      [B, S] after the new tokens, and [B, T, S].
    """
    steps, slots = mask.shape[1], self.mask.shape[1]
    new = jnp.zeros_like(self.mask)
    new = new.at[:, :steps].set(mask)
    filled = self.mask | jnp.roll(new, self.index, axis=1)
    reached = jnp.arange(slots)[None] <= self.index + jnp.arange(steps)[:, None]
    allowed = filled[:, None] & reached[None]
    if prefix is not None:
      both = jnp.zeros((*mask.shape, slots), bool)
      both = both.at[:, :, :steps].set(among(prefix & mask))
      allowed = allowed | jnp.roll(both, self.index, axis=2)
    return filled, allowed


def among(mask: Array) -> Array:
  """Which tokens [B, T, T] are both of a masked kind [B, T]."""
  return mask[:, :, None] & mask[:, None]
