"""Features of images and sounds that can stand in a conversation."""

import math
from collections.abc import Mapping
from typing import Any

from mmjax.data.features import (
  base,
  images,
  patches,
  sound,
  tiles,
  turn_checks,
  turn_layouts,
)

IMAGES = (images.Image, images.Images, patches.Patches, tiles.Tiles)
SOUNDS = (sound.Sounds,)


def check(turns: Any, features: Mapping[str, base.Feature]) -> None:
  """Refuses images and sounds that can't stand in a conversation together.

  Args:
    turns: the conversation's feature, with `image`, `image_tokens` and `sound`.
    features: features by name, some of those in `image` and `sound`.

  Raises:
    ConfigError: naming the setting.
  """
  setting, kinds = turns.medium, SOUNDS if turns.sound else IMAGES
  if turns.sound and turns.image:
    turns.refuse(
      'sound',
      f'is beside image={turns.image!r}, but models read conversations with '
      "images or with sounds; set one of them to ''",
    )
  for name, feature in features.items():
    if type(feature) not in kinds:
      legal = ', '.join(kind.kind for kind in kinds)
      turns.refuse(
        setting, f'names {name!r} of the kind {feature.kind}; use {legal}'
      )
  if not turns.placeholder:
    turns.refuse(setting, 'needs placeholder too')
  turn_checks.check_image_text(turns)
  if turns.image:
    _check_images(turns, features)
  elif turns.image_tokens:
    turns.refuse('image_tokens', 'is not legal: sounds have as many as fit')


def _check_images(turns: Any, features: Mapping[str, base.Feature]) -> None:
  has_patches = any(has_grids(feature) for feature in features.values())
  if len(features) > 1 and not all(map(counts_media, features.values())):
    turns.refuse(
      'image', 'names several features, of which one has patches or tiles'
    )
  if has_patches and turns.image_tokens:
    turns.refuse('image_tokens', 'is not legal: images have as many as fit')
  if not has_patches and turns.image_tokens < 1:
    turns.refuse('image', 'needs image_tokens too')
  side = math.isqrt(turns.image_tokens)
  laid_out = any(map(turn_layouts.is_laid_out, features.values()))
  if laid_out and side**2 != turns.image_tokens:
    turns.refuse('image_tokens', 'is not legal: a tile has a square of tokens')
  if not has_patches and len({f.shape for f in features.values()}) > 1:
    turns.refuse('image', 'names features of several sizes; make them equal')
  if turns.packed and any(f.kind == 'image' for f in features.values()):
    turns.refuse(
      'packed',
      f'packs images of several conversations, so {", ".join(features)} should '
      "be of the kind 'images', with as many as a row has room for",
    )
  if turns.packed and len(features) > 1:
    turns.refuse('packed', 'packs images of one feature, but image has several')


def has_grids(feature: base.Feature) -> bool:
  """Whether images have rows and columns of tokens of their own."""
  return isinstance(feature, patches.Patches)


def counts_media(feature: base.Feature) -> bool:
  """Whether a row has room for a number of them, whatever their sizes."""
  return isinstance(feature, images.Image | sound.Sounds)


def count_slots(feature: base.Feature) -> int:
  """How many images, tiles or sounds a row has room for; of patches, tokens."""
  if isinstance(feature, patches.Patches):
    return feature.tokens
  return getattr(feature, 'number', 1)


def get_word(feature: base.Feature) -> str:
  """What one of them is called in messages."""
  return 'sound' if isinstance(feature, SOUNDS) else 'image'
