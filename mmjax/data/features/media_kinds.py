"""Features of images, videos and sounds that can stand in a conversation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data.features import (
  base,
  images,
  patches,
  sound,
  tiles,
  turn_checks,
  turn_layouts,
  videos,
)

# By the setting of a conversation's feature that names them.
KINDS = {
  'image': (images.Image, images.Images, patches.Patches, tiles.Tiles),
  'video': (videos.Videos,),
  'sound': (sound.Sounds,),
}
# The type of the part of a message that each of these is.
PARTS = {'image': 'image', 'video': 'video', 'sound': 'audio'}
# The setting that names the token that stands for each of these.
PLACEHOLDERS = {
  'image': 'placeholder',
  'video': 'video_placeholder',
  'sound': 'sound_placeholder',
}


def name_media(holder: Any) -> dict[str, tuple[str, ...]]:
  """Names of the features of what stands in conversations.

  Args:
    holder: has the settings `image`, `video` and `sound`: the name of a
      feature, several, or ''.

  Returns:
    By setting, those that name any.
  """
  named = {}
  for setting in KINDS:
    value = getattr(holder, setting)
    names = (value,) if isinstance(value, str) else tuple(value)
    if chosen := tuple(filter(None, names)):
      named[setting] = chosen
  return named


def check(turns: Any, features: Mapping[str, base.Feature]) -> None:
  """Refuses what can't stand in a conversation together.

  Args:
    turns: the conversation's feature, with `image`, `image_tokens`, `video` and
      `sound`.
    features: features by name, some of those in these settings.

  Raises:
    ConfigError: naming the setting.
  """
  named = name_media(turns)
  by_setting = {
    setting: {name: features[name] for name in names if name in features}
    for setting, names in named.items()
  }
  for setting, chosen in by_setting.items():
    for name, feature in chosen.items():
      if type(feature) not in KINDS[setting]:
        legal = ', '.join(kind.kind for kind in KINDS[setting])
        turns.refuse(
          setting, f'names {name!r} of the kind {feature.kind}; use {legal}'
        )
    if not getattr(turns, PLACEHOLDERS[setting]):
      turns.refuse(setting, f'needs {PLACEHOLDERS[setting]} too')
  _check_placeholders(turns, tuple(named))
  turn_checks.check_image_text(turns)
  if 'image' in named:
    _check_images(turns, by_setting['image'])
  elif turns.image_tokens:
    word = next(iter(named), 'sound')
    turns.refuse('image_tokens', f'is not legal: {word}s have as many as fit')
  if 'video' in named:
    _check_videos(turns, by_setting.get('image', {}))


def _check_placeholders(turns: Any, settings: Sequence[str]) -> None:
  """Refuses one token for two kinds of media."""
  words: dict[str, str] = {}
  for setting in settings:
    needed = PLACEHOLDERS[setting]
    word = words.setdefault(getattr(turns, needed), setting)
    if word != setting:
      turns.refuse(needed, f'is that of {word}s too; use another')


def _check_videos(turns: Any, beside: Mapping[str, base.Feature]) -> None:
  """Refuses videos beside images of other kinds than patches."""
  for name, feature in beside.items():
    if not has_grids(feature):
      turns.refuse(
        'video',
        f'is beside images of the kind {feature.kind}; make {name!r} of the '
        "kind 'patches'",
      )


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
  """Whether images or videos have rows and columns of tokens of their own."""
  return isinstance(feature, patches.Patches)


def counts_media(feature: base.Feature) -> bool:
  """Whether a row has room for a number of them, whatever their sizes."""
  return isinstance(feature, images.Image | sound.Sounds)


def count_slots(feature: base.Feature) -> int:
  """How many images, tiles or sounds a row has room for.

  Of patches, also those of videos, how many of their tokens.
  """
  if isinstance(feature, patches.Patches):
    return feature.tokens
  return getattr(feature, 'number', 1)


def get_part(feature: base.Feature) -> str:
  """Type of the part of a message that one of them is."""
  return PARTS[get_word(feature)]


def get_word(feature: base.Feature) -> str:
  """What one of them is called in messages."""
  return next(word for word, kinds in KINDS.items() if type(feature) in kinds)
