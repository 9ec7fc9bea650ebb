"""Which form of attention is computed where."""

import contextlib
import contextvars
from collections.abc import Iterator

from jaxtyping import Array, Float

from mmjax.parallel import (
  collectives,
  ring_attention,
  splash_attention,
  tiled_attention,
)
from mmjax.parallel import mesh as mesh_lib

# Most logits of a layer, B * H * T * S, that a device computes at once.
WHOLE = 2**24

_only_plain = contextvars.ContextVar('only_plain', default=False)


def choose(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  *,
  own: bool,
  needs_weights: bool,
  by_key: bool,
) -> str:
  """Chooses the form of attention by the sizes and the mesh in the context.

  | form | where |
  |---|---|
  | 'plain' | weights or a bias are needed; few logits, or keys of one tile |
  | 'ring' | self-attention of tokens that are split between devices |
  | 'splash' | TPUs, where `by_key`, for at least `LANES` queries and keys |
  | 'tiled' | a device would compute more than `WHOLE` logits |

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K].
    own: whether it is self-attention without a cache. Queries of others are
      few: XLA splits their weights, which are as long as the context.
    needs_weights: whether somebody collects the weights, or a bias [B, H, T, S]
      is added, which is as large as they are.
    by_key: whether the mask, if there is one, is the same for all queries, and
      there is no prefix.
  """
  if needs_weights or _only_plain.get():
    return 'plain'
  if own and ring_attention.is_on():
    return 'ring'
  batch, length, heads, _ = query.shape
  on_tpus = mesh_lib.platform() == 'tpu' and not ring_attention.is_on()
  fills_block = min(length, key.shape[1]) >= splash_attention.LANES
  if on_tpus and by_key and fills_block:
    return 'splash'
  logits = batch * heads * length * key.shape[1]
  shards = collectives.num_shards(
    collectives.dividing_axes(mesh_lib.BATCH_AXES, batch)
    + collectives.dividing_axes(['tensor'], key.shape[2])
  )
  few = logits <= WHOLE * shards
  return 'plain' if few or key.shape[1] <= tiled_attention.TILE else 'tiled'


@contextlib.contextmanager
def only_plain() -> Iterator[None]:
  """Computes plain attention whatever its size, which repeats no product."""
  token = _only_plain.set(True)
  try:
    yield
  finally:
    _only_plain.reset(token)
