"""Sizes of images: a model's, by its positions, and the preprocessing's."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import encoders
from mmjax.errors import ConfigError
from mmjax.pretrained import preprocess
from mmjax.types import Array

# Where a model has its image encoder; '' if it is one.
_PARTS = ('', 'image', 'vision', 'encoder')


def find(module: nn.Module, inputs: Any) -> tuple[int, int] | None:
  """Finds the (height, width) of all images that a model reads.

  Args:
    module: the model.
    inputs: shapes of its inputs, of `Family.inputs`.

  Returns:
    None if it reads images of other sizes too, or no images.
  """
  encoder = _find_encoder(module)
  if encoder is None or encoder.position_grid or encoder.positions != 'learned':
    return None
  for leaf in jax.tree.leaves(inputs):
    if len(leaf.shape) > 3:  # [..., H, W, C]
      return leaf.shape[-3], leaf.shape[-2]
  return None


def _find_encoder(module: nn.Module) -> encoders.ViT | None:
  parts = [
    getattr(module, name) if name else module
    for name in _PARTS
    if not name or hasattr(module, name)
  ]
  return next((part for part in parts if isinstance(part, encoders.ViT)), None)


def check(
  size: tuple[int, int],
  module: nn.Module,
  prepares: preprocess.ImagePreprocessor,
  file: str,
) -> None:
  """Refuses a preprocessing whose images the model can't read.

  Args:
    size: (height, width) of `find`.
    module: the model.
    prepares: its preprocessing.
    file: name of the file with the settings of the preprocessing.

  Raises:
    ConfigError: naming both sizes and files.
  """
  result = prepares.crop_size or prepares.size
  if result is None or _is_read_as(module, result, size):
    return
  raise ConfigError(
    f'{file} makes images of {_describe(result)} pixels, but config.json '
    f"describes a model for {_describe(size)} (its vision config's "
    'image_size); take both files from one model'
  )


def stack(
  arrays: Sequence[np.ndarray],
  module: nn.Module,
  size: tuple[int, int] | None,
  file: str,
) -> Array:
  """Stacks preprocessed images to [B, H, W, 3].

  Args:
    arrays: images [h, w, 3].
    module: the model.
    size: (height, width) of all images that it reads; None for any.
    file: name of the file with the settings of the preprocessing.

  Raises:
    ConfigError: if images have different sizes, or not those of the model.
  """
  sizes = list(dict.fromkeys(array.shape[:2] for array in arrays))
  wrong = [s for s in sizes if size and not _is_read_as(module, s, size)]
  if wrong:
    raise ConfigError(
      f'an image has {_describe(wrong[0])} pixels after the preprocessing of '
      f'{file}, but the model reads {_describe(size)}; set crop_size or size '
      'there, or pass an image of this shape'
    )
  if len(sizes) > 1:
    raise ConfigError(
      'images have different sizes after the preprocessing of '
      f'{file}: {" and ".join(map(_describe, sizes[:2]))} pixels; pass one '
      'image at a time, or set crop_size or size there'
    )
  return jnp.stack(arrays)


def _is_read_as(
  module: nn.Module, size: tuple[int, int], wanted: tuple[int, int]
) -> bool:
  """Whether an image of a size has the patches of one of the wanted size."""
  encoder = _find_encoder(module)
  if encoder is None or not encoder.ragged:
    return tuple(size) == tuple(wanted)
  patches = lambda sides: [side // encoder.patch_size for side in sides]
  return patches(size) == patches(wanted)


def _describe(size: Sequence[int]) -> str:
  return 'x'.join(map(str, size))
