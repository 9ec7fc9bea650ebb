"""Makers of predict functions of DALL-E 2, as of `mmjax.models.predict`."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import objectives, ops
from mmjax.models import predict
from mmjax.types import Array, Batch, Params


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How something is drawn, as of `predict.make_draw`.

  Attributes:
    objective: that the model was trained with.
    steps: number of steps of the sampler.
    sampler: sampler, as in `mmjax.ops.sample`.
    spacing: spacing, as in `mmjax.ops.make_step_table`.
    guidance: factor of classifier-free guidance.
  """

  objective: objectives.Denoising
  steps: int
  sampler: str
  spacing: str
  guidance: float


def make_prior(
  model: nn.Module, *, prior: Sampling, candidates: int
) -> predict.Predict:
  """Embeddings [B, E] of images that the prior imagines of texts.

  Args:
    model: an `Unclip` with a prior.
    prior: how an embedding is drawn.
    candidates: number of embeddings that are drawn of a text, of which the one
      nearest to the text's embedding is used (DALL-E 2, section 2.2: two).

  Returns:
    A function of batches with `text` and `seed` [B], of which an example's
    noise is a function.
  """
  draw = predict.make_draw(
    model, shape=(model.towers.embed_dim,), **_arguments(prior)
  )

  def function(params: Params, batch: Batch) -> Array:
    bound = {'params': params}
    text = model.apply(bound, batch, 'text', method='embed')
    drawn = []
    for i in range(candidates):
      seed = batch['seed'] * candidates + i
      scaled = draw(params, {**batch, 'seed': seed})
      drawn.append(model.apply(bound, scaled, method='denormalise'))
    found = jnp.stack(drawn, axis=1)  # [B, n, E]
    best = jnp.argmax(jnp.einsum('bne,be->bn', found, text), axis=1)
    return jnp.take_along_axis(found, best[:, None, None], axis=1)[:, 0]

  return function


def make_unclip(
  model: nn.Module,
  *,
  prior: Sampling,
  candidates: int,
  **generator: Any,
) -> predict.Predict:
  """Images [B, H, W, C] of texts: first their embeddings, then they.

  Args:
    model: an `Unclip` with a prior and a generator.
    prior: prior, as in `make_prior`.
    candidates: candidates, as in `make_prior`.
    **generator: as of `predict.make_draw`.
  """
  imagine = make_prior(model, prior=prior, candidates=candidates)
  draw = predict.make_draw(model, **generator)

  def function(params: Params, batch: Batch) -> Array:
    embedding = imagine(params, batch)
    return draw(params, {'seed': batch['seed'], 'image_embedding': embedding})

  return function


def make_variations(
  model: nn.Module, *, feature: str, **generator: Any
) -> predict.Predict:
  """Images [B, H, W, C] of the embeddings of a batch's own images.

  Args:
    model: an `Unclip` with a generator.
    feature: name of the images.
    **generator: as of `predict.make_draw`.
  """
  embed = predict.make_embed(model, name=feature)
  draw = predict.make_draw(model, **generator)

  def function(params: Params, batch: Batch) -> Array:
    embedding = embed(params, batch)
    return draw(params, {'seed': batch['seed'], 'image_embedding': embedding})

  return function


def make_invert(model: nn.Module, *, generator: Sampling) -> predict.Predict:
  """The noise [B, H, W, C] of which images are drawn again.

  DDIM inversion (Dhariwal and Nichol 2021, appendix F), without guidance:
  beside its embedding, all that an image has (DALL-E 2, section 3).

  Args:
    model: an `Unclip` with a generator.
    generator: how images are drawn; the sampler is always 'ddim'.

  Returns:
    A function of batches with `image` and `image_embedding`.
  """

  def function(params: Params, batch: Batch) -> Array:
    def denoise(noisy: Array, time: Array) -> Array:
      times = jnp.full(len(noisy), time)
      return model.apply(
        {'params': params}, noisy, times, batch, method='denoise'
      )

    return ops.invert(
      denoise,
      batch['image'],
      generator.objective.schedule,
      steps=generator.steps,
      spacing=generator.spacing,
    )

  return function


def _arguments(sampling: Sampling) -> dict[str, Any]:
  return {
    field.name: getattr(sampling, field.name)
    for field in dataclasses.fields(sampling)
  }
