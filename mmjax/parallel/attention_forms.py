"""Which form of attention is computed where."""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import jax
from jaxtyping import Array, Float

from mmjax.parallel import (
  collectives,
  cudnn_attention,
  ring_attention,
  splash_attention,
  tiled_attention,
)
from mmjax.parallel import mesh as mesh_lib

# Most logits of a layer, B * H * T * S, that a device computes at once.
WHOLE = 2**24
# Least number of queries, and of keys, for the kernels of accelerators. Those
# for TPUs pad to whole blocks: of 197 tokens they compute 1.7 times the
# products, and what they save of the logits is less than what they add.
LONG = {'tpu': 512, 'gpu': 128}
# Least number of both for those of TPUs where nothing is padded, of logits that
# are more than `WHOLE`: fewer stay in the memory beside the cores.
LONG_UNPADDED = 256
# Least number of keys of which causal attention on CPUs leaves out later tiles.
LONG_CAUSAL = 512

_only_plain = contextvars.ContextVar('only_plain', default=False)


def choose(
  query: Float[Array, 'B T H K'],
  key: Float[Array, 'B S G K'],
  *,
  own: bool,
  needs_weights: bool,
  masked: str = 'queries',
  causal: bool = False,
  capped: bool = False,
) -> str:
  """Chooses the form of attention by platform, sizes and mesh in the context.

  The first that fits:

  | form | where |
  |---|---|
  | 'plain' | weights or a bias are needed |
  | 'ring' | self-attention of tokens that are split between devices |
  | 'splash' | TPUs, many queries and keys, not masked by query or capped |
  | 'cudnn' | GPUs, many queries and keys, half precision, not capped |
  | 'tiled' | CPUs, causal, `LONG_CAUSAL` keys |
  | 'tiled' | a device would compute more than `WHOLE` logits |
  | 'plain' | few logits, or keys of one tile |

  Many are `LONG`, and on TPUs `LONG_UNPADDED` if both are whole blocks and
  their logits more than `WHOLE`.

  Args:
    query: queries [B, T, H, K].
    key: keys [B, S, G, K].
    own: whether it is self-attention without a cache. Queries of others are
      few: XLA splits their weights, which are as long as the context.
    needs_weights: whether somebody collects the weights, or a bias [B, H, T, S]
      is added, which is as large as they are.
    masked: what says which keys a query may attend to, apart from `causal`:
      'nothing', 'keys' (segments, or a mask that is the same for all queries),
      or 'queries' (a prefix, a window, or another mask).
    causal: whether no query attends to later keys, without a prefix.
    capped: whether logits have a limit, which kernels of accelerators lack.
  """
  if needs_weights or _only_plain.get():
    return 'plain'
  splits_tokens = ring_attention.is_on()
  if own and splits_tokens:
    return 'ring'
  batch, length, heads, _ = query.shape
  platform = mesh_lib.platform()
  few = batch * heads * length * key.shape[1] <= WHOLE * _count_shards(
    batch, key
  )
  if not (splits_tokens or capped):
    kernels = _choose_kernels(platform, query, key, masked, few)
    if kernels:
      return kernels
  if platform == 'cpu' and causal and key.shape[1] >= LONG_CAUSAL:
    return 'tiled'
  return 'plain' if few or key.shape[1] <= tiled_attention.TILE else 'tiled'


def _choose_kernels(
  platform: str, query: Array, key: Array, masked: str, few: bool
) -> str:
  """An accelerator's kernels for many queries and keys; '' for none."""
  lengths = query.shape[1], key.shape[1]
  least = LONG.get(platform, math.inf)
  unpadded = all(n % splash_attention.LANES == 0 for n in lengths)
  if platform == 'tpu' and unpadded and not few:
    least = LONG_UNPADDED
  if min(lengths) < least:
    return ''
  if platform == 'tpu':
    return 'splash' if masked != 'queries' else ''
  shapes = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (query, key))
  fits = cudnn_attention.supports(*shapes, masked != 'nothing')
  return 'cudnn' if fits else ''


def _count_shards(batch: int, key: Array) -> int:
  """Devices that examples and key-value heads are split between."""
  return collectives.num_shards(
    collectives.dividing_axes(mesh_lib.BATCH_AXES, batch)
    + collectives.dividing_axes(['tensor'], key.shape[2])
  )


@contextlib.contextmanager
def only_plain() -> Iterator[None]:
  """Computes plain attention whatever its size, which repeats no product."""
  token = _only_plain.set(True)
  try:
    yield
  finally:
    _only_plain.reset(token)
