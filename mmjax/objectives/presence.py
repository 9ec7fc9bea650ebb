"""Masks and outputs that objectives need of batches and models."""

from typing import Any

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


def presence_mask(batch: Batch, feature: str) -> Array:
  """The mask [B] of examples that have a feature and are not padding.

  It is [B, n] for questions and answers if there are n per example.

  Args:
    batch: arrays by name, as `mmjax.types` describes.
    feature: name of the array. A mask over its tokens, frames or samples counts
      as one over examples: True if any is real.

  Raises:
    KeyError: if the batch does not have the feature at all.
  """
  if feature not in batch:
    raise KeyError(
      f'the objective needs {feature!r}, but the batch has only '
      f'{sorted(batch)}; add it to the data or drop the objective'
    )
  array = batch[feature]
  mask = batch.get(f'{feature}_mask')
  if mask is not None:
    present = mask if mask.ndim == 1 else mask.any(axis=-1)
  elif feature.endswith('label'):  # Without a mask, -1 is none.
    present = array >= 0
  else:
    is_tokens = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim > 1
    present = jnp.ones(array.shape[:-1] if is_tokens else array.shape[:1], bool)
  return _and(present, batch['mask']) if 'mask' in batch else present


def joint_mask(batch: Batch, *features: str) -> Array:
  """The mask [B] or [B, n] of examples that have all these features."""
  present = presence_mask(batch, features[0])
  for feature in features[1:]:
    present = _and(present, presence_mask(batch, feature))
  return present


def get_output(outputs: Outputs, name: str) -> Any:
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
