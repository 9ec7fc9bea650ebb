"""What attention layers, blocks and stacks keep between decoding steps."""

from typing import Any

import flax.struct
import jax.numpy as jnp

from mmjax.types import Array


@flax.struct.dataclass
class KeyValues:
  """The keys and values that one attention layer has computed so far.

  Attributes:
    key: [B, S, G, K].
    value: [B, S, G, K].
  """

  key: Array
  value: Array


@flax.struct.dataclass
class BlockCache:
  """What a block keeps between decoding steps.

  Attributes:
    self_attention: keys and values of the tokens so far.
    cross_attention: caches of the context; None without
      cross-attention.
  """

  self_attention: KeyValues
  cross_attention: KeyValues | None = None


@flax.struct.dataclass
class Decoding:
  """A cache, and the slot where the keys of the new tokens go.

  Attributes:
    cache: `KeyValues` for `Attention`, `BlockCache` for `Block`, the same with
      leaves [L, ...] for `Stack`.
    index: [], the slot of the first new token.
  """

  cache: Any
  index: Array | int = 0


def empty_cache(
  *,
  depth: int,
  batch: int,
  num_slots: int,
  num_heads: int,
  head_dim: int,
  num_context_tokens: int | None = None,
  dtype: Any = jnp.float32,
) -> BlockCache:
  """Makes room for decoding `num_slots` tokens with a `Stack`.

  Args:
    depth: L.
    batch: B.
    num_slots: S.
    num_heads: G, number of key-value heads.
    head_dim: number of features of a head K.
    num_context_tokens: number of context tokens, with cross-attention.
    dtype: the Stack's.

  Returns:
    Zeros, leaves [L, B, S, G, K].
  """

  def zeros(slots: int) -> KeyValues:
    array = jnp.zeros((depth, batch, slots, num_heads, head_dim), dtype)
    return KeyValues(array, array)

  cross = None if num_context_tokens is None else zeros(num_context_tokens)
  return BlockCache(zeros(num_slots), cross)
