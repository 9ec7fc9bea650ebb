"""Which arrays of a batch a model with images or sounds among words reads."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from mmjax import ops
from mmjax.types import Array, Batch


def select(
  batch: Batch, name: str, images: Sequence[str], *, has_axes: bool
) -> dict[str, Any]:
  """Selects a feature of texts and its images, by the keys of one of texts.

  Args:
    batch: arrays by feature.
    name: the feature of the texts or conversations.
    images: the features of its images.
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
  return chosen


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
