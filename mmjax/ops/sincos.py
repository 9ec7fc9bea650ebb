"""Positions as sines and cosines."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmjax.errors import ConfigError


def sincos_1d(
  length: int,
  width: int,
  theta: float = 10_000.0,
  *,
  interleaved: bool = False,
) -> Float[Array, 'N D']:
  """Fixed sine-cosine positions [N, D] (Vaswani et al. 2017, section 3.5).

  Sines fill the first half of the features and cosines the second, and the
  frequencies go from 1 to exactly 1 / `theta`, as in Whisper and big_vision.
  With `interleaved`, sines and cosines alternate and the frequencies stop short
  of 1 / `theta`, as in the paper and in VideoMAE.

  Raises:
    ConfigError: if `width` is odd.
  """
  if interleaved:
    _check_even(width)
    frequencies = theta ** -(np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * frequencies[None]
    table = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    return jnp.asarray(table.reshape(length, width), jnp.float32)
  return jnp.asarray(_sincos(np.arange(length), width, theta), jnp.float32)


def sincos_2d(
  height: int, width_in_patches: int, width: int, theta: float = 10_000.0
) -> Float[Array, 'N D']:
  """Fixed positions on a grid [H * W, D], rows first, as in big_vision.

  One half of the features encodes the column, the other the row.

  Raises:
    ConfigError: if `width` is not divisible by 4.
  """
  if width % 4:
    raise ConfigError(
      f'2-d sine-cosine positions need a width divisible by 4, got {width}'
    )
  rows, columns = np.mgrid[:height, :width_in_patches]
  parts = [
    _sincos(columns.ravel(), width // 2, theta),
    _sincos(rows.ravel(), width // 2, theta),
  ]
  return jnp.asarray(np.concatenate(parts, axis=1), jnp.float32)


def sincos_grid(
  height: int,
  width_in_patches: int,
  width: int,
  *,
  base: int | None = None,
  scale: float = 1.0,
  theta: float = 10_000.0,
) -> Float[Array, 'N D']:
  """Fixed positions on a grid [H * W, D], rows first, as in DiT.

  As `sincos_2d`, but with frequencies that stop short of 1 / `theta` (Peebles
  and Xie 2023, in their code), and for other sizes than those of training.

  Args:
    height: number of rows H.
    width_in_patches: number of columns W.
    width: number of features D.
    base: number of rows and of columns to which positions count, whatever H
      and W (PixArt-alpha, Chen et al. 2024, in their code); None for H and W.
    scale: divides positions.
    theta: base of the geometric progression of wavelengths.

  Raises:
    ConfigError: if `width` is not divisible by 4.
  """
  if width % 4:
    raise ConfigError(
      f'2-d sine-cosine positions need a width divisible by 4, got {width}'
    )
  frequencies = theta ** -(np.arange(width // 4) / (width // 4))
  rows, columns = np.mgrid[:height, :width_in_patches]
  parts = []
  for indices, length in ((columns, width_in_patches), (rows, height)):
    positions = indices.ravel() * ((base or length) / length / scale)
    angles = positions[:, None] * frequencies[None]
    parts += [np.sin(angles), np.cos(angles)]
  return jnp.asarray(np.concatenate(parts, axis=1), jnp.float32)


def sincos_numbers(
  numbers: Float[Array, 'B'],
  width: int,
  *,
  inclusive: bool = False,
  theta: float = 10_000.0,
) -> Float[Array, 'B D']:
  """Cosines, then sines of numbers such as times, [B, D].

  The frequencies go from 1 down, and stop short of 1 / `theta` (Peebles and Xie
  2023, in their code) or, with `inclusive`, end there (Ho et al. 2020, in
  theirs).

  Args:
    numbers: [B].
    width: number of features D.
    inclusive: whether the last frequency is 1 / `theta`.
    theta: base of the geometric progression of wavelengths.

  Raises:
    ConfigError: if `width` is odd.
  """
  _check_even(width)
  half = width // 2
  frequencies = theta ** -(np.arange(half) / (half - inclusive))
  angles = numbers[:, None] * jnp.asarray(frequencies, jnp.float32)[None]
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _sincos(positions: np.ndarray, width: int, theta: float) -> np.ndarray:
  _check_even(width)
  frequencies = theta ** -np.linspace(0, 1, width // 2)
  angles = positions[:, None] * frequencies[None]
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _check_even(width: int) -> None:
  if width % 2:
    raise ConfigError(f'sine-cosine positions need an even width, got {width}')
