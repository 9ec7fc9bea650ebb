"""What attention may attend to."""

import flax.struct

from mmjax.types import Array


@flax.struct.dataclass
class Visible:
  """Which keys each query may attend to, and how far they are apart.

  All of it is the same for every layer of a stack. With padding at the end of
  the second text and `causal`, for T = S = 3:

    mask [B, 1, S]    1 1 1     causal [1, T, S]  1 . .    both  1 . .   1 . .
                      1 1 .                       1 1 .          1 1 .   1 1 .
                                                  1 1 1          1 1 1   1 1 .

  Attributes:
    mask: [B, T, S], True where a query may attend to a key; None means
      everywhere.
    causal: whether, of those, query t may attend to keys 0..t alone; for
      self-attention without a cache.
    bias: [B, H, T, S] or [1, H, T, S], added to the attention logits, such as
      `RelativePositions`; None for none.
    positions: [B, T], or [B, T, A] with several axes, for rotary
      self-attention; None counts from 0.
  """

  mask: Array | None = None
  causal: bool = flax.struct.field(pytree_node=False, default=False)
  bias: Array | None = None
  positions: Array | None = None


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
