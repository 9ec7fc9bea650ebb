"""Makers of predict functions of models with tokens of images or sounds."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import objectives, ops
from mmjax.models.predict import Predict
from mmjax.types import Array, Batch, Params


def make_method(model: nn.Module, *, method: str, feature: str) -> Predict:
  """What a method makes of one array, such as tokens [B, h, w] of images.

  Args:
    model: one with the method.
    method: its name, such as 'encode_tokens' of an `ImageAutoencoder`.
    feature: name of the array in batches.
  """

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch[feature], method=method)

  return predict


def make_reconstruct(model: nn.Module) -> Predict:
  """Images [B, H, W, C] or samples [B, N] float32, encoded and decoded.

  Args:
    model: one with `reconstruct`.
  """

  def predict(params: Params, batch: Batch) -> Array:
    found = model.apply({'params': params}, batch, method='reconstruct')
    return found.values

  return predict


def make_draw_tokens(
  model: nn.Module,
  *,
  objective: objectives.MaskedImageTokens,
  shape: tuple[int, ...],
  steps: int,
  temperature: float,
  guidance: float,
) -> Predict:
  """Images [B, H, W, C] float32 of tokens that a model draws.

  Args:
    model: a `MaskGit`.
    objective: that it was trained with.
    shape: (H, W, C).
    steps: steps, as in `mmjax.ops.fill_tokens`.
    temperature: temperature, as in `mmjax.ops.fill_tokens`.
    guidance: factor g of classifier-free guidance, u + g (c - u) of logits with
      and without the condition (Chang et al. 2023, section 2.7, whose t is
      g - 1). With 1, c alone is computed, and with 0, u alone.

  Returns:
    A function of batches with the condition and `seed` [B] int32, of which an
    example's draws are a function.
  """
  del objective
  grid = model.autoencoder.grid(shape)

  def predict(params: Params, batch: Batch) -> Array:
    batch = dict(batch)
    keys = jax.vmap(jax.random.key)(batch.pop('seed'))
    apply = functools.partial(model.apply, {'params': params})
    ids = ops.fill_tokens(
      _make_guided(apply, batch, len(keys), grid, guidance),
      keys,
      grid[0] * grid[1],
      steps=steps,
      temperature=temperature,
    )
    return apply(ids.reshape(-1, *grid), method='decode_tokens')

  return predict


def make_write_tokens(
  model: nn.Module,
  *,
  objective: objectives.NextImageTokens,
  shape: tuple[int, ...],
  temperature: float,
  top_k: int,
  top_p: float,
  guidance: float,
) -> Predict:
  """Images [B, H, W, C] or samples [B, S] float32 that are written as tokens.

  Args:
    model: an `ImageFirstVisionLanguage` with `image_codes` or `sound_codes`.
    objective: that it was trained with, whose kind is written.
    shape: (H, W, C), or (S,).
    temperature: temperature, as in `mmjax.decoders.sample`.
    top_k: top k, as in `mmjax.decoders.sample`.
    top_p: top p, as in `mmjax.decoders.sample`.
    guidance: factor of classifier-free guidance, as of the model's
      `write_tokens`.

  Returns:
    A function of batches with the text and `seed` [B] int32, of which an
    example's draws are a function.
  """
  kind = objective.kind
  _, coder = model.find_writer(kind)
  grid = coder.grid(shape)

  def predict(params: Params, batch: Batch) -> Array:
    batch = dict(batch)
    keys = jax.vmap(jax.random.key)(batch.pop('seed'))
    apply = functools.partial(model.apply, {'params': params}, kind=kind)
    ids = apply(
      batch,
      number=grid[0] * grid[1],
      guidance=guidance,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      rng=keys,
      method='write_tokens',
    )
    values = apply(ids.reshape(-1, *grid), method='decode_tokens')
    return values[:, : shape[0]]  # Of sounds, the last token may be cut.

  return predict


def _make_guided(
  apply: Callable[..., Array],
  batch: Batch,
  number: int,
  grid: tuple[int, int],
  guidance: float,
) -> Callable[[Array, Array], Array]:
  """A function from ids [B, P] and what is hidden of them to logits."""

  def run(ids: Array, hidden: Array, batch: Any, conditioned: Array) -> Array:
    ids, hidden = (x.reshape(-1, *grid) for x in (ids, hidden))
    logits = apply(ids, hidden, batch, conditioned, method='predict_tokens')
    return logits.reshape(len(ids), grid[0] * grid[1], -1)

  def find_logits(ids: Array, hidden: Array) -> Array:
    if guidance in (0.0, 1.0):
      return run(ids, hidden, batch, jnp.full(number, guidance != 0))
    twice = lambda x: jnp.concatenate([x, x])
    both = jax.tree.map(twice, (ids, hidden, batch))
    half = jnp.arange(2 * number) < number
    with_it, without = jnp.split(run(*both, half), 2)
    return without + guidance * (with_it - without)

  return find_logits
