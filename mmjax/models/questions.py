"""Questions, of which one image may have several, and their answers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, FactoredLogits, TokenVectors


def classifier(num_answers: int, dtype: Any) -> mnn.Dense:
  """Features [..., D] to logits [..., C] over the answer vocabulary."""
  return mnn.Dense(
    num_answers,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), ('embed', None)
    ),
    dtype=dtype,
  )


def flatten(array: Array) -> Array:
  """Lays out n questions or answers an example, [B, n, T], as [B * n, T].

  [B, T] stays as it is.
  """
  return array.reshape(-1, array.shape[-1])


def repeat_for(image: TokenVectors, questions: Array) -> TokenVectors:
  """Repeats an image's tokens for each of its questions.

  Args:
    image: values [B, N, D].
    questions: [B, T] or [B, n, T].

  Returns:
    TokenVectors: values [B, N, D] or [B * n, N, D].
  """
  if questions.ndim == 2:
    return image
  number = questions.shape[1]
  return jax.tree.map(lambda x: jnp.repeat(x, number, axis=0), image)


def unflatten(
  array: Array | FactoredLogits, questions: Array
) -> Array | FactoredLogits:
  """Brings outputs [B * n, ...] to [B, n, ...], or leaves [B, ...]."""
  if isinstance(array, FactoredLogits):
    return array.replace(vectors=unflatten(array.vectors, questions))
  return array.reshape(*questions.shape[:-1], *array.shape[1:])
