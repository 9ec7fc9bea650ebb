"""Predict functions: (params, batch) to a model's predictions.

They are pure, so they can be jitted, and all that evaluators know of a model.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.types import Array, Batch, Params

Predict = Callable[[Params, Batch], Array]


def embed(model: nn.Module, *, name: str) -> Predict:
  """Unit vectors [B, E] of one field.

  Args:
    model: one with `embed(batch, name)`.
    name: name of the field.
  """

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch, name, method='embed')

  return predict


def output(model: nn.Module, *, target: str) -> Predict:
  """Outputs [B, n] for one target: logits of classes, or numbers.

  Args:
    model: one with `predict(batch, target)`.
    target: name of the feature that is predicted.
  """

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch, target, method='predict')

  return predict


def generate(
  model: nn.Module, *, task: str, max_new_tokens: int, **settings: Any
) -> Predict:
  """Token ids [B, max_new_tokens] of captions or answers.

  Args:
    model: one with `generate`.
    task: one of the model's `tasks`, such as 'caption' or 'answer'.
    max_new_tokens: most tokens to generate.
    **settings: further arguments of `generate`, such as `beam_size`.
  """

  def predict(params: Params, batch: Batch) -> Array:
    generated = model.apply(
      {'params': params},
      batch,
      task=task,
      max_new_tokens=max_new_tokens,
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
