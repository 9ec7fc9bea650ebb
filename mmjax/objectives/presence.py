"""Which examples of a batch have what an objective needs."""

import jax.numpy as jnp

from mmjax.types import Array, Batch


def of(batch: Batch, modality: str) -> Array:
  """True [B] for examples that have a modality, and are not padding.

  Args:
    batch: see `mmjax.types`.
    modality: 'image', 'text', 'question' or 'answer'.

  Raises:
    KeyError: if the batch has no such modality at all.
  """
  if modality not in batch:
    raise KeyError(
      f'the objective needs {modality!r}, but the batch has only '
      f'{sorted(batch)}; add it to the data or drop the objective'
    )
  array = batch[modality]
  mask = batch.get(f'{modality}_mask')
  if mask is None:
    present = jnp.ones(array.shape[:1], bool)
  else:
    present = mask if mask.ndim == 1 else mask.any(axis=1)
  return present & batch['mask'] if 'mask' in batch else present


def all_of(batch: Batch, *modalities: str) -> Array:
  """True [B] for examples that have all these modalities."""
  present = of(batch, modalities[0])
  for modality in modalities[1:]:
    present = present & of(batch, modality)
  return present
