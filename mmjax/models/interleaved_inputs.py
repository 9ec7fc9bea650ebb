"""Which arrays of a batch a model with images or sounds among words reads."""

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


def index_media_tokens(
  batch: Batch, placeholders: Sequence[int], number: int
) -> Array:
  """Which of the tokens of images, from 0 on, each placeholder is, [B, T].

  With `videos`, their tokens stand behind those of images. Here is room for two
  of images and three of videos, with the placeholders 8 and 9:

    text   1  9  8  9  8
    which  .  2  0  3  1

  Args:
    batch: `text` [B, T], and `videos` if they are apart from images.
    placeholders: ids of the tokens that images and videos replace.
    number: N, number of the tokens of images and videos.

  Returns:
    int32 [B, T], of no meaning where no placeholder is.
  """
  ids = batch['text']
  if 'videos' not in batch:
    known = jnp.asarray(tuple(placeholders), jnp.int32)
    return jnp.cumsum(jnp.isin(ids, known), axis=1) - 1
  videos = ids == placeholders[-1]
  # Each token is of as many patches.
  sizes = [
    batch[key]['segments'].shape[1]
    for key in ('patches', 'videos')
    if key in batch
  ]
  first = number * (sum(sizes) - sizes[-1]) // sum(sizes)
  return jnp.where(
    videos,
    first + jnp.cumsum(videos, axis=1) - 1,
    jnp.cumsum(ids == placeholders[0], axis=1) - 1,
  )


def join_tokens(parts: Sequence[TokenVectors]) -> TokenVectors:
  """Tokens of images and those of videos, one after the other, [B, N, D]."""
  first = parts[0]
  if len(parts) == 1:
    return first
  levels = None
  if first.levels is not None:
    levels = jnp.concatenate([part.levels for part in parts], axis=2)
  return TokenVectors(
    jnp.concatenate([part.values for part in parts], axis=1),
    jnp.concatenate([part.mask for part in parts], axis=1),
    first.pooled,
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
