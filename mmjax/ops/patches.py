"""Patches of images and spectrograms."""

import einops
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from mmjax.errors import ConfigError


def check_layout(images: Shaped[Array | np.ndarray, '...']) -> None:
  """Refuses images that are not [B, H, W, C].

  Raises:
    ConfigError: if an axis is missing, or the channels seem to be first.
  """
  shape = images.shape
  if len(shape) != 4:
    way_out = (
      'of one image, pass images[None]' if len(shape) == 3 else 'reshape'
    )
    raise ConfigError(
      f'images are [B, H, W, C], but these have the shape {shape}; {way_out}'
    )
  if shape[1] in (1, 3) and shape[3] not in (1, 3):
    raise ConfigError(
      f'images are [B, H, W, C], but {shape} looks like [B, C, H, W]; '
      'move the channels with jnp.moveaxis(images, 1, -1)'
    )


def check_pixels(pixels: Shaped[Array | np.ndarray, '...']) -> None:
  """Refuses pixels that are not normalised, as those of files are.

  Args:
    pixels: what an encoder reads, of any shape.

  Raises:
    ConfigError: if they are not floats.
  """
  if not jnp.issubdtype(pixels.dtype, jnp.floating):
    raise ConfigError(
      f'the pixels are {pixels.dtype}, but modules read floats, normalised as '
      'in training; make them with mmjax.data.images.normalise(pixels, mean, '
      'std), mean and std (0.5, 0.5, 0.5) for new parameters'
    )


def cut_patches(
  images: Shaped[Array, 'B H W C'], size: int, *, ragged: bool = False
) -> tuple[Shaped[Array, 'B P E'], tuple[int, int]]:
  """Cuts images into square patches, rows first.

  Args:
    images: [B, H, W, C].
    size: side p of a patch in pixels.
    ragged: whether pixels beyond the last whole patch are left out.

  Returns:
    Values of patches [B, P, p * p * C], and the number of rows and columns.

  Raises:
    ConfigError: if the size doesn't divide the image, unless `ragged`, or the
      images are laid out otherwise.
  """
  check_layout(images)
  for side in images.shape[1:3]:
    if (side % size and not ragged) or side < size:
      fits = max(side // size, 1) * size
      raise ConfigError(
        f'image size {side} is not divisible by patch size {size}; use {fits} '
        'or pad the image'
      )
  rows, columns = (side // size for side in images.shape[1:3])
  patches = einops.rearrange(
    images[:, : rows * size, : columns * size],
    'b (r p) (c q) d -> b (r c) (p q d)',
    r=rows,
    c=columns,
  )
  return patches, (rows, columns)


def join_patches(
  patches: Shaped[Array | np.ndarray, 'B P E'],
  grid: tuple[int, int],
  channels: int,
) -> Shaped[Array | np.ndarray, 'B H W C']:
  """The inverse of `cut_patches`.

  Args:
    patches: [B, P, p * p * C].
    grid: number of rows and columns.
    channels: C.
  """
  size = round((patches.shape[-1] // channels) ** 0.5)
  return einops.rearrange(
    patches,
    'b (r c) (p q d) -> b (r p) (c q) d',
    r=grid[0],
    p=size,
    q=size,
  )


def take_patches(
  x: Float[Array, 'B N D'], visible: Int[Array, 'B K'], *, front: int
) -> Float[Array, 'B M D']:
  """Keeps the first tokens and, of those after them, the visible ones.

  Args:
    x: [B, F + P, D].
    visible: indices of patches [B, K], in 0..P - 1.
    front: F, number of tokens that are not patches.

  Returns:
    [B, F + K, D], patches in the order of `visible`.
  """
  patches = jnp.take_along_axis(x[:, front:], visible[:, :, None], axis=1)
  return jnp.concatenate([x[:, :front], patches], axis=1)
