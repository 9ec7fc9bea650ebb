"""Predict functions: (params, batch) to a model's predictions.

They are pure, so they can be jitted, and all that evaluators know of a model.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.types import Array, Batch, Params

Predict = Callable[[Params, Batch], Array]


def embed_images(model: nn.Module) -> Predict:
  """Unit vectors [B, E] of a batch's `image`."""

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply(
      {'params': params},
      batch['image'],
      batch.get('image_mask'),
      method='encode_image',
    )

  return predict


def embed_texts(model: nn.Module) -> Predict:
  """Unit vectors [B, E] of a batch's `text`."""

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply(
      {'params': params},
      batch['text'],
      batch.get('text_mask'),
      method='encode_text',
    )

  return predict


def generate(
  model: nn.Module, *, task: str, length: int, **settings: Any
) -> Predict:
  """Token ids [B, length] of captions or answers.

  Args:
    model: one with `generate`.
    task: one of the model's `tasks`, such as 'caption' or 'answer'.
    length: most tokens to generate.
    **settings: further arguments of `generate`, such as `beam_size`.
  """

  def predict(params: Params, batch: Batch) -> Array:
    generated = model.apply(
      {'params': params},
      batch,
      task=task,
      length=length,
      method='generate',
      **settings,
    )
    return generated.tokens

  return predict


def answer_logits(model: nn.Module) -> Predict:
  """Logits [B, C] over the answer vocabulary."""

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch, method='classify_answer')

  return predict


def pick_answer(model: nn.Module) -> Predict:
  """Index [B] of the likeliest answer."""
  logits = answer_logits(model)
  return lambda params, batch: jnp.argmax(logits(params, batch), axis=-1)
