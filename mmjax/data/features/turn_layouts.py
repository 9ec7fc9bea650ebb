"""Layouts of tiles of images in conversations (`mmjax.ops.anyres`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data.features import base, tiles
from mmjax.ops import anyres


def is_laid_out(feature: base.Feature) -> bool:
  """Whether tokens of images are not those of tiles one after the other."""
  return isinstance(feature, tiles.Tiles) and feature.is_laid_out


def make_arrays(
  name: str, images: Sequence[Any], length: int, image_tokens: int
) -> base.Example:
  """Arrays of the layouts of images, one after the other.

  Args:
    name: name of the conversations' feature.
    images: placed images, each with its `layout` and the `slot` of its first
      tile.
    length: T.
    image_tokens: number of tokens of a tile.

  Returns:
    `NAME_sources` int32 [T, 4] and `NAME_weights` float32 [T, 4].
  """
  sources = np.zeros((length, 4), np.int32)
  weights = np.zeros((length, 4), np.float32)
  start = 0
  for image in images:
    layout = image.layout.shift(image.slot * image_tokens)
    end = min(start + len(layout), length)
    sources[start:end] = layout.sources[: end - start]
    weights[start:end] = layout.weights[: end - start]
    start = end
  return {f'{name}_sources': sources, f'{name}_weights': weights}


def join(
  name: str,
  examples: Sequence[base.Example],
  features: Mapping[str, base.Feature],
  image_tokens: int,
) -> base.Example:
  """Joins the arrays of `make_arrays` of the conversations of a row.

  Args:
    name: name of the conversations' feature.
    examples: all arrays of each conversation.
    features: features of images and others by name.
    image_tokens: number of tokens of a tile.
  """
  out = {
    f'{name}_{key}': np.zeros_like(examples[0][f'{name}_{key}'])
    for key in ('sources', 'weights')
  }
  sources, weights = out.values()
  start = tiles_before = 0
  for example in examples:
    real = example[f'{name}_weights'].any(axis=1)
    layout = anyres.Layout(
      example[f'{name}_sources'][real], example[f'{name}_weights'][real]
    ).shift(tiles_before * image_tokens)
    sources[start : start + len(layout)] = layout.sources
    weights[start : start + len(layout)] = layout.weights
    start += len(layout)
    tiles_before += sum(
      int(example[f'{n}_mask'].sum())
      for n, feature in features.items()
      if is_laid_out(feature)
    )
  return out
