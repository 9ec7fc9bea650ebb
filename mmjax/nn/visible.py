"""What attention may attend to."""

from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.types import Array, TokenVectors


@flax.struct.dataclass
class Visible:
  """Which keys each query may attend to, and how far they are apart.

  What is said by `causal`, `segments` and `prefix_mask`, and by a mask that is
  the same for all queries, [B, 1, S], takes memory for T tokens, not for T * S.
  These three are for self-attention without a cache.

  All but `window` and `local` is the same for every layer of a stack. With
  padding at the end of
  the second text and `causal`, for T = S = 3:

    mask [B, 1, S]    1 1 1     causal [1, T, S]  1 . .    both  1 . .   1 . .
                      1 1 .                       1 1 .          1 1 .   1 1 .
                                                  1 1 1          1 1 1   1 1 .

  Attributes:
    mask: [B, T, S], True where a query may attend to a key; None means
      everywhere.
    causal: whether, of those, query t may attend to keys 0..t alone.
    segments: [B, T], from 1 on: of those, tokens attend to those of their own
      segment alone; 0 is padding. None for one segment.
    prefix_mask: [B, T], True for tokens that attend to each other in both
      directions although `causal`; or integers, those of one number from 1 on
      attending to each other. None for none.
    bias: [B, H, T, S] or [1, H, T, S], added to the attention logits, such as
      `RelativePositions`; None for none.
    positions: [B, T], or [B, T, A] with several axes, for rotary
      self-attention; None counts from 0.
    window: number of keys up to its own that a query may attend to, of those;
      None for all.
    key_positions: [B, S], where a cache holds keys, those that `window` counts
      by `positions`; without a cache it counts tokens.
    local: [], whether a layer is one of the `local_layers` of its stack, which
      may have other rotary positions; None without any.
  """

  mask: Array | None = None
  causal: bool = flax.struct.field(pytree_node=False, default=False)
  segments: Array | None = None
  prefix_mask: Array | None = None
  bias: Array | None = None
  positions: Array | None = None
  window: Array | int | None = None
  key_positions: Array | None = None
  local: Array | None = None

  def __post_init__(self):
    object.__setattr__(self, 'mask', _leave_out(self.mask))

  @classmethod
  def of_keys(cls, mask: Array | None, **more: Any) -> 'Visible':
    """What a mask [B, S] of keys leaves visible to all queries.

    Args:
      mask: [B, S]; None means everywhere.
      **more: further attributes.
    """
    return cls(None if mask is None else mask[:, None], **more)

  def make_mask(self, length: int) -> Array | None:
    """The mask [B, T, S] of all this for T queries; None means everything."""
    pair = lambda x: None if x is None else (x, x)
    return ops.allowed_keys(
      self.mask,
      earlier=ops.causal_mask(length) if self.causal else None,
      segments=pair(self.segments),
      prefix_mask=pair(self.prefix_mask),
      recent=self._find_recent(length),
    )

  def fold_window(self) -> 'Visible':
    """The same with a window over a cache's keys in the mask [B, T, S]."""
    if self.window is None or self.key_positions is None:
      return self
    recent = self._find_recent(self.positions.shape[1])
    mask = recent if self.mask is None else self.mask & recent
    return self.replace(mask=mask, window=None)

  def _find_recent(self, length: int) -> Array | None:
    if self.window is None:
      return None
    queries = keys = jnp.arange(length)[None]
    if self.key_positions is not None:
      queries, keys = self.positions, self.key_positions
    return ops.recent_keys(queries, keys, self.window)

  def mask_granularity(self) -> str:
    """What the mask depends on besides `causal`: queries, keys or nothing."""
    by_query = self.mask is not None and self.mask.shape[1] > 1
    if by_query or self.prefix_mask is not None or self.window is not None:
      return 'queries'
    return 'nothing' if self.mask is None and self.segments is None else 'keys'


def _leave_out(mask: Any) -> Any:
  """None for a mask of numpy that hides nothing, see `ops.everywhere`."""
  if not isinstance(mask, np.ndarray):
    return mask
  return None if ops.is_everywhere(mask) else jnp.asarray(mask)


EVERYTHING = Visible()


@flax.struct.dataclass
class Context:
  """What cross-attention takes keys and values from.

  Attributes:
    values: [B, S, E]; None where a cache holds their keys and values already.
    mask: [B, S], True where a token is real; None means everywhere.
  """

  values: Array | None
  mask: Array | None = None

  def __post_init__(self):
    object.__setattr__(self, 'mask', _leave_out(self.mask))

  @classmethod
  def of(cls, tokens: TokenVectors) -> 'Context':
    """Tokens as a context."""
    return cls(tokens.values, tokens.mask)
