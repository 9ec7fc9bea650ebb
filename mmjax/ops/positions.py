"""Positions of tokens: rotary, relative, resized."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmjax.errors import ConfigError


def rotary(
  x: Float[Array, 'B T H K'],
  positions: Int[Array, '#B T *A'],
  theta: float = 10_000.0,
  *,
  scaling: Mapping[str, Any] | None = None,
  sections: Sequence[int] | None = None,
  axial: bool = False,
  interleaved: bool = False,
  frequencies: Float[Array, ' P'] | None = None,
) -> Float[Array, 'B T H K']:
  """Applies rotary position embeddings (RoPE; Su et al. 2021, equation 34).

  Feature i is paired with i + K/2, as in GPT-NeoX and Llama.

  Args:
    x: queries or keys [B, T, H, K], K even.
    positions: positions [B, T] or [1, T], or [B, T, A] with several axes, such
      as time, row and column.
    theta: base of the geometric progression of wavelengths.
    scaling: settings of the frequencies for longer texts, as in
      `rotary_frequencies`.
    sections: number of pairs that each axis rotates, K/2 in all; the first axis
      rotates the first pairs (multimodal rotary positions, Wang et al. 2024,
      section 2.1). Positions with a single axis are used for all sections.
    axial: whether the frequencies restart in each section, as for the patches
      of an image, instead of continuing.
    interleaved: whether the axes take turns, pair by pair, as long as an axis
      has pairs left, and the first one has the rest (Qwen3-VL, Bai et al. 2025,
      section 2).
    frequencies: frequencies of `rotary_frequencies`, where they aren't
      constant, [K / 2], instead of `theta` and `scaling`; None to compute them.

  Returns:
    The rotated features [B, T, H, K], in the dtype of `x`.

  Raises:
    ConfigError: if K is odd, the sections don't sum to K/2 pairs, positions
      have axes without sections, or the scaling is unknown.
  """
  head_dim = x.shape[-1]
  if head_dim % 2:
    raise ConfigError(
      f'rotary positions rotate pairs of features, but the head size '
      f'{head_dim} is odd; choose an even head_dim'
    )
  if sections is not None and sum(sections) != head_dim // 2:
    raise ConfigError(
      f'rotary sections {tuple(sections)} have {sum(sections)} pairs of '
      f'features, but the head size {head_dim} has {head_dim // 2}'
    )
  longest = (scaling or {}).get('length', 0)
  if (scaling or {}).get('kind') == 'dynamic' and x.shape[1] > longest:
    raise ConfigError(
      f'a text of {x.shape[1]} tokens is longer than {longest}, from where on '
      'rotary positions of the kind dynamic depend on the length; shorten it'
    )
  if positions.ndim == 3 and sections is None:
    raise ConfigError(
      f'positions with {positions.shape[2]} axes need rotary sections'
    )
  if frequencies is None:
    parts = sections if axial and sections is not None else [head_dim // 2]
    frequencies = jnp.asarray(
      np.concatenate(
        [rotary_frequencies(2 * pairs, theta, scaling) for pairs in parts]
      ),
      jnp.float32,
    )
  if positions.ndim == 3:
    axis = _find_axes(sections, interleaved=interleaved)
    positions = positions[:, :, axis]  # [B, T, K / 2]
  else:
    positions = positions[:, :, None]  # [B, T, 1]
  angles = positions[:, :, None] * frequencies[None, None, None]
  # [B, T, 1, K / 2], the same for all heads
  sin, cos = jnp.sin(angles), jnp.cos(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )
  return rotated.astype(x.dtype)


def _find_axes(sections: Sequence[int], *, interleaved: bool) -> np.ndarray:
  """The axis that rotates each pair of features, [K / 2].

  With sections of 4, 2 and 1: 0 0 0 0 1 1 2, interleaved 0 1 2 0 1 0 0.
  """
  if not interleaved:
    return np.repeat(np.arange(len(sections)), sections)
  axes = np.zeros(sum(sections), np.int64)
  for axis, number in enumerate(sections[1:], 1):
    axes[axis : number * len(sections) : len(sections)] = axis
  return axes


def rotary_frequencies(
  head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> np.ndarray:
  """Rotation of each pair of features in radians per position, [K / 2].

  Args:
    head_dim: size of a head, K.
    theta: base of the geometric progression.
    scaling: None, or `kind` and its settings. 'linear' divides all frequencies
      by `factor` (Chen et al. 2023, section 3.2). 'dynamic' keeps all: `rotary`
      refuses texts of more than `length` tokens, for which they would depend on
      the length. 'llama3' divides frequencies
      of fewer than `low` rotations in `length` positions by `factor`, keeps
      those of more than `high` rotations, and interpolates linearly between
      (Grattafiori et al. 2024, as published with Llama 3.1).

  Raises:
    ConfigError: for an unknown kind.
  """
  frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
  if scaling is None:
    return frequencies
  if scaling['kind'] == 'linear':
    return frequencies / scaling['factor']
  if scaling['kind'] == 'dynamic':
    return frequencies
  if scaling['kind'] == 'llama3':
    low, high = scaling['low'], scaling['high']
    turns = scaling['length'] * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return frequencies * (kept + (1 - kept) / scaling['factor'])
  raise ConfigError(
    f"rotary scaling {scaling['kind']!r} is unknown; use 'linear', 'dynamic' "
    "or 'llama3'"
  )


def relative_buckets(
  distances: Int[Array, '...'],
  number: int,
  max_distance: int,
  *,
  bidirectional: bool,
) -> Int[Array, '...']:
  """Maps distances between tokens to buckets that widen with the distance.

  As in T5 (Raffel et al. 2020, section 2.1, in their code): half of a
  direction's buckets have one distance each, the others grow in geometric
  progression, and the last has `max_distance` and everything beyond.

  Args:
    distances: position of the key minus position of the query.
    number: number of buckets.
    max_distance: distance at which the last bucket begins.
    bidirectional: whether keys after a query have their own buckets, the upper
      half; otherwise they use the bucket of distance 0.

  Returns:
    The buckets, 0 to number - 1.

  Raises:
    ConfigError: if there are too few buckets, or `max_distance` is too small
      for them.
  """
  one_side = number // 2 if bidirectional else number
  exact = one_side // 2
  if exact < 1 or max_distance <= exact:
    raise ConfigError(
      f'{number} buckets up to a distance of {max_distance} are not possible; '
      f'use at least {4 if bidirectional else 2}, and a max_distance above '
      f'{exact}'
    )
  if bidirectional:
    upper = jnp.where(distances > 0, one_side, 0)
    distances = jnp.abs(distances)
  else:
    upper = jnp.zeros_like(distances)
    distances = jnp.maximum(-distances, 0)
  # A table of buckets is exact where a logarithm would round.
  steps = np.arange(1, max_distance)
  grown = np.log(np.float32(steps) / np.float32(exact)) / np.float32(
    math.log(max_distance / exact)
  )
  wide = exact + (grown * np.float32(one_side - exact)).astype(np.int64)
  table = np.where(steps < exact, steps, np.minimum(wide, one_side - 1))
  table = jnp.asarray([0, *table, one_side - 1], jnp.int32)
  return upper + table[jnp.minimum(distances, max_distance)]


def resize_positions(
  table: Float[Array, 'R C D'],
  height: int,
  width: int,
  *,
  antialias: bool = False,
) -> Float[Array, 'H W D']:
  """Resizes a grid of positions by bicubic interpolation.

  The two kernels are those of published weights. Without `antialias` it is the
  cubic convolution of Keys 1981 with a = -0.75, four neighbours wide at any
  size, and the grid's edge is repeated. With `antialias`, a = -0.5, the kernel
  widens when the grid shrinks, and it is cut off at the edge. Pixel centres are
  aligned.

  Args:
    table: grid of positions [R, C, D].
    height: new number of rows, H.
    width: new number of columns, W.
    antialias: which of the two kernels to use.

  Returns:
    [H, W, D], in the dtype of `table`.
  """
  rows = _cubic(table.shape[0], height, antialias)
  columns = _cubic(table.shape[1], width, antialias)
  resized = jnp.einsum(
    'hr,wc,rcd->hwd', rows, columns, table.astype(jnp.float32)
  )
  return resized.astype(table.dtype)


def positions_on_grids(
  table: Float[Array, 'R C D'], grids: Int[Array, 'B 2'], length: int
) -> Float[Array, 'B N D']:
  """Resizes a grid of positions to the size of each example's grid.

  The interpolation is bilinear and antialiased, as for NaFlex (SigLIP 2,
  Tschannen et al. 2025).

  Args:
    table: grid of positions [R, C, D].
    grids: rows and columns of each example, at least 1, [B, 2].
    length: number of positions to return, N, rows first; those beyond an
      example's grid have no meaning.

  Returns:
    The positions [B, N, D].
  """
  indices = jnp.arange(length)[None]
  rows = indices // grids[:, 1:]
  columns = indices % grids[:, 1:]
  return jnp.einsum(
    'bnr,bnc,rcd->bnd',
    _linear(table.shape[0], grids[:, :1], rows),
    _linear(table.shape[1], grids[:, 1:], columns),
    table,
  )


def sample_positions(
  table: Float[Array, 'R C D'],
  places: Int[Array, 'B N 2'],
  grids: Int[Array, 'B N 2'],
) -> Float[Array, 'B N D']:
  """Resizes a grid of positions bilinearly to the grid of each patch's image.

  Corners are aligned: the outer patches have the outer positions, as in
  Qwen3-VL (Bai et al. 2025).

  Args:
    table: grid of positions [R, C, D].
    places: row and column of each patch in its image [B, N, 2].
    grids: rows and columns of its image, at least 1, [B, N, 2].

  Returns:
    The positions [B, N, D], in the dtype of `table`.
  """
  last = jnp.asarray(table.shape[:2]) - 1
  exact = places * last[None, None] / jnp.maximum(grids - 1, 1)
  low = jnp.floor(exact).astype(jnp.int32)
  part = (exact - low).astype(table.dtype)
  out = jnp.zeros((*places.shape[:2], table.shape[2]), table.dtype)
  for down in (0, 1):
    for right in (0, 1):
      step = jnp.asarray([down, right])
      at = jnp.minimum(low + step[None, None], last[None, None])
      weights = jnp.where(step[None, None] == 1, part, 1 - part)
      weight = weights.prod(axis=2, keepdims=True)  # [B, N, 1]
      out += weight * table[at[:, :, 0], at[:, :, 1]]
  return out


def _linear(
  old: int, new: Int[Array, 'B 1'], indices: Int[Array, 'B N']
) -> Float[Array, 'B N S']:
  """Weights of each old index in the new indices."""
  scale = old / new
  centers = (indices + 0.5) * scale - 0.5
  distances = jnp.abs(jnp.arange(old)[None, None] - centers[:, :, None])
  weights = jnp.maximum(
    1 - distances / jnp.maximum(scale, 1.0)[:, :, None], 0.0
  )
  total = weights.sum(axis=2, keepdims=True)
  return weights / jnp.maximum(total, 1e-6)


def _cubic(old: int, new: int, antialias: bool) -> np.ndarray:
  """Weights [new, old] of each old index in each new one."""
  scale = old / new
  centers = (np.arange(new)[:, None] + 0.5) * scale - 0.5
  if antialias:
    stretch = max(scale, 1.0)
    weights = _cubic_kernel(
      np.abs(np.arange(old)[None] - centers) / stretch, -0.5
    )
    return np.float32(weights / weights.sum(axis=1, keepdims=True))
  weights = np.zeros((new, old))
  for step in range(-1, 3):
    indices = np.floor(centers) + step
    inside = np.clip(indices, 0, old - 1).astype(int)
    np.add.at(
      weights,
      (np.arange(new)[:, None], inside),
      _cubic_kernel(np.abs(indices - centers), -0.75),
    )
  return np.float32(weights)


def _cubic_kernel(x: np.ndarray, a: float) -> np.ndarray:
  """The cubic convolution kernel (Keys 1981, equation 15) of distances."""
  near = (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = a * (x**3 - 5 * x**2 + 8 * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
