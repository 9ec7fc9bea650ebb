"""What attention may attend to."""

import flax.struct

from mmjax import ops
from mmjax.types import Array


@flax.struct.dataclass
class Visible:
  """Which keys each query may attend to, and how far they are apart.

  What is said by `causal`, `segments` and `prefix`, and by a mask that is the
  same for all queries, [B, 1, S], takes memory for T tokens, not for T * S.
  These three are for self-attention without a cache.

  All of it is the same for every layer of a stack. With padding at the end of
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
    prefix: [B, T], True for tokens that attend to each other in both directions
      although `causal`; None for none.
    bias: [B, H, T, S] or [1, H, T, S], added to the attention logits, such as
      `RelativePositions`; None for none.
    positions: [B, T], or [B, T, A] with several axes, for rotary
      self-attention; None counts from 0.
  """

  mask: Array | None = None
  causal: bool = flax.struct.field(pytree_node=False, default=False)
  segments: Array | None = None
  prefix: Array | None = None
  bias: Array | None = None
  positions: Array | None = None

  def make_mask(self, length: int) -> Array | None:
    """The mask [B, T, S] of all this for T queries; None means everything."""
    pair = lambda x: None if x is None else (x, x)
    return ops.allowed_keys(
      self.mask,
      earlier=ops.causal_mask(length) if self.causal else None,
      segments=pair(self.segments),
      prefix=pair(self.prefix),
    )

  def find_masked(self) -> str:
    """What this is besides `causal`, for `attention_forms.choose`."""
    by_query = self.mask is not None and self.mask.shape[1] > 1
    if by_query or self.prefix is not None:
      return 'queries'
    return 'nothing' if self.mask is None and self.segments is None else 'keys'


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
