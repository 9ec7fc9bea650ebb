"""Weights in a few bits: blocks of int8 or NF4 with a scale each.

A block is 64 consecutive inputs of one output, of which the largest magnitude
is the block's scale. A weight is stored as the nearest of the multiples of
scale / 127 (int8), or of 16 quantiles of a normal distribution times the scale
(NF4; Dettmers et al. 2023, QLoRA, section 3 and appendix E), as bitsandbytes
stores it.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmjax.types import Array

KINDS = ('int8', 'nf4')
BLOCK = 64
# Of smaller blocks, the scales would need too much memory.
_SMALLEST_BLOCK = 16
# The values of bitsandbytes, which its function `create_normal_map` makes.
NF4 = (
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
)
_LARGEST_FLOAT8 = 448.0


class Packed(NamedTuple):
  """A kernel [..., n, *outputs] in blocks of b of its n inputs.

  The layers of a stack, and inputs of further axes, are in front.

  Attributes:
    codes: int8 [..., n / b, b, *outputs], or for NF4 uint8 [..., n / b, b / 2,
      *outputs] with the first of two values in the higher bits.
    scales: float32 [..., n / b, 1, *outputs]; or with double quantisation uint8
      of the same shape, the bits of float8_e4m3fn.
    scale_scales: float32 [..., n / b, 1, 1...], factors on the latter; None
      without.
    scale_means: float32, one number per layer, what is added to these; None
      without.
  """

  codes: Array
  scales: Array
  scale_scales: Array | None = None
  scale_means: Array | None = None

  @property
  def axis(self) -> int:
    """The axis of what is in a block; that of the blocks is before it."""
    sizes = zip(self.codes.shape, self.scales.shape, strict=True)
    return next(i for i, (n, one) in enumerate(sizes) if n != one)

  @property
  def kind(self) -> str:
    """'int8' or 'nf4'."""
    return 'int8' if self.codes.dtype == jnp.int8 else 'nf4'

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of the kernel."""
    axis, shape = self.axis, self.codes.shape
    each = 1 if self.kind == 'int8' else 2
    joined = shape[axis - 1] * shape[axis] * each
    return (*shape[: axis - 1], joined, *shape[axis + 1 :])


def find_block(size: int) -> int | None:
  """The size of the blocks of so many inputs; None if they have no blocks.

  It is the largest even number up to 64 that divides them, and at least 16.

  >>> find_block(2048), find_block(588), find_block(74)
  (64, 42, None)
  """
  sizes = range(BLOCK, _SMALLEST_BLOCK - 1, -2)
  return next((block for block in sizes if size % block == 0), None)


def quantize(
  kernel: Array, axis: int, kind: str, *, stacked: int | None = None
) -> Packed:
  """Stores a kernel in few bits.

  With double quantisation the scales are 8-bit floats as well, after their mean
  is subtracted (Dettmers et al. 2023, section 3). Where the paper has a factor
  for 256 of them, here it is for those of all outputs, so that a mesh can split
  these.

  Args:
    kernel: float [..., n, *outputs].
    axis: the axis of n, which `find_block` divides.
    kind: one of `KINDS`.
    stacked: number of axes of layers in front, for double quantisation; None
      for none.
  """
  shape = kernel.shape
  block = find_block(shape[axis])
  blocks = kernel.astype(jnp.float32).reshape(
    *shape[:axis], shape[axis] // block, block, *shape[axis + 1 :]
  )
  inside = axis + 1
  scales = jnp.abs(blocks).max(inside, keepdims=True)  # [..., n / b, 1, ...]
  ratios = blocks / jnp.where(scales == 0, 1.0, scales)  # In [-1, 1].
  if kind == 'int8':
    codes = jnp.round(ratios * 127).astype(jnp.int8)
  else:
    codes = _pack_pairs(_find_nearest(ratios), inside)
  if stacked is None:
    return Packed(codes, scales)
  every = tuple(range(stacked, scales.ndim))
  means = scales.mean(every, keepdims=True)
  centred = scales - means
  outputs = tuple(range(inside + 1, scales.ndim))
  largest = jnp.abs(centred).max(outputs, keepdims=True) / _LARGEST_FLOAT8
  eight = centred / jnp.where(largest == 0, 1.0, largest)
  bits = jax.lax.bitcast_convert_type(
    eight.astype(jnp.float8_e4m3fn), jnp.uint8
  )
  return Packed(codes, bits, largest, means)


def dequantize(packed: Packed, dtype: Any = jnp.float32) -> Array:
  """The kernel [..., n, *outputs] that `quantize` stored, rounded."""
  scales, axis = packed.scales, packed.axis
  if packed.scale_scales is not None:
    eight = jax.lax.bitcast_convert_type(scales, jnp.float8_e4m3fn)
    scales = eight.astype(jnp.float32) * packed.scale_scales
    scales = scales + packed.scale_means
  if packed.kind == 'int8':
    values = packed.codes.astype(jnp.float32) * (scales / 127)
  else:
    values = _look_up(packed.codes, axis) * scales
  return values.reshape(packed.shape).astype(dtype)


def _find_nearest(ratios: Array) -> Array:
  """Number of the nearest of `NF4` to each."""
  middles = [(a + b) / 2 for a, b in itertools.pairwise(NF4)]
  return sum((ratios > middle).astype(jnp.uint8) for middle in middles)


def _pack_pairs(numbers: Array, axis: int) -> Array:
  """Two numbers of four bits a byte: [..., b, ...] -> [..., b / 2, ...]."""
  shape = numbers.shape
  pairs = numbers.reshape(*shape[:axis], -1, 2, *shape[axis + 1 :])
  first, second = jnp.moveaxis(pairs, axis + 1, 0)
  return (first << 4) | second


def _unpack_pairs(codes: Array, axis: int) -> Array:
  """The inverse of `_pack_pairs`."""
  shape = codes.shape
  pairs = jnp.stack([codes >> 4, codes & 15], axis + 1)
  return pairs.reshape(*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])


def _look_up(codes: Array, axis: int) -> Array:
  """The values of `NF4` that pairs of numbers stand for, in float32.

  By a tree of selects on the four bits, which the compiler makes a part of what
  surrounds it; gathering from a table would be slow on accelerators.
  """
  # In a loop over layers, the values must not look the same in each: XLA for
  # CPUs would broadcast each of them to the shape of a kernel before the loop.
  table = jnp.asarray(NF4, jnp.float32)
  table, codes = jax.lax.optimization_barrier((table, codes))
  numbers, values = _unpack_pairs(codes, axis), list(table)
  for bit in range(int(math.log2(len(NF4)))):
    is_set = (numbers >> bit) & 1 == 1
    values = [
      jnp.where(is_set, high, low)
      for low, high in zip(values[::2], values[1::2], strict=True)
    ]
  return values[0]
