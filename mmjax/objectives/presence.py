"""Masks and outputs that objectives need of batches and models."""

import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, Outputs

# Hints in the error for a missing output.
_HINTS = {
  'answer_logits': ', such as vqa_generation if the model generates answers',
  'answer_token_logits': (
    ', such as vqa_classification if the model classifies answers'
  ),
}


def presence_mask(batch: Batch, modality: str) -> Array:
  """The mask [B] of examples that have a modality and are not padding.

  It is [B, n] for questions and answers if there are n per example.

  Args:
    batch: arrays by the keys of `mmjax.types`.
    modality: 'image', 'text', 'question' or 'answer'.

  Raises:
    KeyError: if the batch does not have the modality at all.
  """
  if modality not in batch:
    raise KeyError(
      f'the objective needs {modality!r}, but the batch has only '
      f'{sorted(batch)}; add it to the data or drop the objective'
    )
  array = batch[modality]
  mask = batch.get(f'{modality}_mask')
  if mask is None:
    tokens = modality != 'image'
    present = jnp.ones(array.shape[: array.ndim - 1 if tokens else 1], bool)
  else:
    present = mask if modality == 'image' else mask.any(axis=-1)
  return _and(present, batch['mask']) if 'mask' in batch else present


def joint_mask(batch: Batch, *modalities: str) -> Array:
  """The mask [B] or [B, n] of examples that have all these modalities."""
  present = presence_mask(batch, modalities[0])
  for modality in modalities[1:]:
    present = _and(present, presence_mask(batch, modality))
  return present


def get_output(outputs: Outputs, name: str) -> Array:
  """Returns a model's output by name.

  Raises:
    ConfigError: if the model does not have the output.
  """
  if name not in outputs:
    raise ConfigError(
      f'an objective needs {name}, but for this data the model returns only '
      f'{sorted(outputs)}; choose objectives that it has the parts for'
      + _HINTS.get(name, '')
    )
  return outputs[name]


def _and(a: Array, b: Array) -> Array:
  """Logical and of masks [B] or [B, n]; [B] is broadcast over n."""
  if a.ndim > b.ndim:
    b = b[:, None]
  elif b.ndim > a.ndim:
    a = a[:, None]
  return a & b
