"""Which examples of a batch, and which models, have what an objective needs."""

import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, Outputs

# What else a model may be asked for.
_INSTEAD = {
  'answer_logits': ', such as vqa_generation where it writes its answers',
  'answer_token_logits': ', such as vqa_classification where it picks them',
}


def of(batch: Batch, modality: str) -> Array:
  """True [B] for examples that have a modality, and are not padding.

  [B, n] for questions and answers of which there are n an example.

  Args:
    batch: arrays by the keys of `mmjax.types`.
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
    tokens = modality != 'image'
    present = jnp.ones(array.shape[: array.ndim - 1 if tokens else 1], bool)
  else:
    present = mask if modality == 'image' else mask.any(axis=-1)
  return _intersect(present, batch['mask']) if 'mask' in batch else present


def all_of(batch: Batch, *modalities: str) -> Array:
  """True [B], or [B, n], for examples that have all these modalities."""
  present = of(batch, modalities[0])
  for modality in modalities[1:]:
    present = _intersect(present, of(batch, modality))
  return present


def output(outputs: Outputs, name: str) -> Array:
  """A model's output of a name.

  Raises:
    ConfigError: if it has none.
  """
  if name not in outputs:
    raise ConfigError(
      f'an objective needs {name}, but with this data the model returns only '
      f'{sorted(outputs)}; choose objectives that it has the parts for'
      + _INSTEAD.get(name, '')
    )
  return outputs[name]


def _intersect(a: Array, b: Array) -> Array:
  """Logical and of [B] or [B, n] each; [B] counts for all n."""
  if a.ndim > b.ndim:
    b = b[:, None]
  elif b.ndim > a.ndim:
    a = a[:, None]
  return a & b
