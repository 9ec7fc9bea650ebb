"""Which arrays of a batch a model with images or sounds among words reads."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from mmjax import ops
from mmjax.types import Array, Batch, TokenVectors


def select(
  batch: Batch,
  name: str,
  images: Sequence[str],
  videos: Sequence[str] = (),
  *,
  has_axes: bool,
) -> dict[str, Any]:
  """Selects a feature of texts with its images and videos, by keys of texts.

  Args:
    batch: arrays by feature.
    name: the feature of the texts or conversations.
    images: the features of its images.
    videos: the feature of its videos; () for none.
    has_axes: whether rotary positions have several axes.

  Returns:
    Arrays as `InterleavedVisionLanguage` reads them.
  """
  keys = {'text': name, 'text_mask': f'{name}_mask'}
  chosen = {key: batch[own] for key, own in keys.items() if own in batch}
  has_axes = has_axes and f'{name}_rotary' in batch
  for key, suffix in (
    ('text_positions', 'rotary' if has_axes else 'positions'),
    ('text_segments', 'segments'),
  ):
    if f'{name}_{suffix}' in batch:
      chosen[key] = batch[f'{name}_{suffix}']
  if f'{name}_sources' in batch:
    chosen['image_layout'] = {
      key: batch[f'{name}_{key}'] for key in ('sources', 'weights')
    }
  images = [image for image in images if image in batch]
  if images and f'{images[0]}_segments' in batch:
    chosen['patches'] = _select_patches(batch, images[0])
  elif images:
    slots = batch.get(f'{name}_slots')
    chosen['image'] = _join_images(batch, images, slots)
  for video in videos:
    if video in batch:
      chosen['videos'] = _select_patches(batch, video)
  return chosen


@dataclasses.dataclass(frozen=True)
class Media:
  """Tokens of images, videos or sounds, in the order of their placeholders.

  Attributes:
    placeholders: ids of the tokens that they replace.
    tokens: values [B, N, D], those of padding last.
  """

  placeholders: Sequence[int]
  tokens: TokenVectors


def insert(
  words: Array, text: Array, media: Sequence[Media]
) -> tuple[Array, Array | None]:
  """Puts tokens of media in the place of their placeholders.

  Args:
    words: word vectors [B, T, D].
    text: ids [B, T].
    media: what replaces ids; [] for nothing.

  Returns:
    Vectors [B, T, D]; and levels [n, B, T, D], 0 for words, or None.
  """
  if not media:
    return words, None
  tokens, which = join_tokens(media), index_media_tokens(text, media)
  ids = [own for part in media for own in part.placeholders]
  replaced = find_placeholders(text, ids)[:, :, None]  # [B, T, 1]
  vectors = jnp.take_along_axis(tokens.values, which[:, :, None], axis=1)
  x = jnp.where(replaced, vectors.astype(words.dtype), words)
  if tokens.levels is None:
    return x, None
  levels = jnp.take_along_axis(tokens.levels, which[None, :, :, None], axis=2)
  return x, jnp.where(replaced, levels, 0)


def index_media_tokens(text: Array, media: Sequence[Media]) -> Array:
  """Which of the tokens of all media, from 0 on, each placeholder is, [B, T].

  Those of one kind stand behind those of the other. Here is room for two tokens
  of images and three of videos, with the placeholders 8 and 9:

    text   1  9  8  9  8
    which  .  2  0  3  1

  Args:
    text: ids [B, T].
    media: at least one kind of media.

  Returns:
    int32 [B, T], of no meaning where no placeholder is.
  """
  which, first = jnp.zeros(text.shape, jnp.int32), 0
  for part in media:
    own = find_placeholders(text, part.placeholders)
    number = part.tokens.values.shape[1]
    order = jnp.clip(jnp.cumsum(own, axis=1) - 1, 0, number - 1)
    which = jnp.where(own, first + order, which)
    first += number
  return which


def find_placeholders(text: Array, placeholders: Sequence[int]) -> Array:
  """Where one of some ids stands in a text [B, T], bool [B, T]."""
  return jnp.isin(text, jnp.asarray(tuple(placeholders), jnp.int32))


def join_tokens(media: Sequence[Media]) -> TokenVectors:
  """Tokens of all media, one kind after the other, [B, N, D].

  `levels` are 0 for media without them.
  """
  parts = [part.tokens for part in media]
  if len(parts) == 1:
    return parts[0]
  levels = None
  number = max(0 if p.levels is None else len(p.levels) for p in parts)
  if number:
    levels = jnp.concatenate(
      [
        jnp.zeros((number, *p.values.shape), p.values.dtype)
        if p.levels is None
        else p.levels
        for p in parts
      ],
      axis=2,
    )
  return TokenVectors(
    jnp.concatenate([part.values for part in parts], axis=1),
    jnp.concatenate([part.mask for part in parts], axis=1),
    parts[0].pooled,
    levels,
  )


def select_sounds(batch: Batch, names: Sequence[str]) -> dict[str, Array]:
  """Selects the samples of a feature of sounds, if the batch has them.

  Args:
    batch: arrays by feature.
    names: the feature of the sounds of conversations; () for none.

  Returns:
    Arguments of `InterleavedAudioLanguage.encode_samples` by name.
  """
  return {
    key: batch[own]
    for name in names
    if name in batch
    for key, own in (('samples', name), ('samples_mask', f'{name}_mask'))
  }


def _select_patches(batch: Batch, name: str) -> dict[str, Array]:
  """Arguments of `PackedViT.encode_patches`."""
  names = ('positions', 'segments', 'windows')
  keys = {key: f'{name}_{key}' for key in names}
  return {
    'patches': ops.zero_masked(batch[name], batch[f'{name}_mask']),
    **{key: batch[theirs] for key, theirs in keys.items() if theirs in batch},
  }


def _join_images(
  batch: Batch, names: Sequence[str], slots: Array | None
) -> Array:
  """The images of several features [B, n, H, W, C].

  Args:
    batch: arrays by name, of each feature [B, H, W, C] or [B, m, H, W, C].
    names: names of the features.
    slots: [B, n], the number of each image in its order in the text, where that
      is another than the features'; None if it is the same.
  """
  parts = []
  for name in names:
    image, mask = batch[name], batch.get(f'{name}_mask')
    if mask is not None:
      image = ops.zero_masked(image, mask)
    parts.append(image[:, None] if image.ndim == 4 else image)
  images = jnp.concatenate(parts, axis=1)  # [B, n, H, W, C]
  if slots is None:
    return images
  return jnp.take_along_axis(images, slots[:, :, None, None, None], axis=1)
